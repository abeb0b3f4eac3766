//! A simulated world for the pure core: seeded, without a runtime and without
//! sleeping. Stories of pushes and faults are played through the same loop and
//! the same guardian as on a host; the properties of the design are checked at
//! every step. A story that fails is shortened until nothing can be left out.

mod agent;
mod answers;
mod blind;
mod chance;
mod course;
mod effects;
mod endings;
mod events;
mod forge;
mod gates;
mod host;
mod jobs;
mod properties;
mod publishing;
mod regressions;
mod story;
mod world;

use course::play;
use story::Story;

/// Leaves out what the failure does not need.
fn shortened(mut story: Story) -> Story {
    let fails = |story: &Story| play(story, false).wrong.is_some();
    let mut size = story.events.len().div_ceil(2);
    let mut left = 600;
    while size > 0 {
        let mut at = 0;
        let mut shorter = false;
        while at < story.events.len() && left > 0 {
            left -= 1;
            let mut without = story.clone();
            let end = (at + size).min(story.events.len());
            without.events.drain(at..end);
            if fails(&without) {
                story = without;
                shorter = true;
            } else {
                at += size;
            }
        }
        if !shorter || left == 0 {
            size /= 2;
        }
    }
    story
}

/// The failure, in at most twenty lines.
fn report(story: Story) -> String {
    let seed = story.seed;
    let story = shortened(story);
    let course = play(&story, true);
    let told = &course.told;
    let last =
        told.len().saturating_sub(std::env::var("FORT_LINES").map_or(20, |n| n.parse().unwrap()));
    format!(
        "seed {seed}{}: {}\n{}\n{:?}\n",
        if story.bare { " (bare)" } else { "" },
        course.wrong.unwrap_or_default(),
        told[last..].join("\n"),
        story.policy
    )
}

/// Deployments that one share of the simulation plays.
fn share() -> u64 {
    let all = std::env::var("FORT_AGENT_SIM").ok().and_then(|n| n.parse().ok()).unwrap_or(204_000);
    u64::div_ceil(all, SHARES)
}

const SHARES: u64 = 4;

/// Where the seeds begin: other stories than everybody's.
fn first_seed() -> u64 {
    std::env::var("FORT_AGENT_FROM").ok().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn simulate(nth: u64) {
    let (mut deployments, mut steps, mut stories) = (0, 0, 0);
    let began = std::time::Instant::now();
    while deployments < share() {
        let story = Story::by_chance(first_seed() + nth + SHARES * stories);
        let course = play(&story, false);
        stories += 1;
        if course.wrong.is_some() {
            panic!("{}", report(story));
        }
        deployments += course.deployments;
        steps += course.steps;
    }
    assert!(deployments >= share());
    println!(
        "{deployments} deployments in {stories} stories, {steps} steps, {:?}",
        began.elapsed()
    );
}

#[test]
fn every_story_ends_well_first_share() {
    simulate(0);
}

#[test]
fn every_story_ends_well_second_share() {
    simulate(1);
}

#[test]
fn every_story_ends_well_third_share() {
    simulate(2);
}

#[test]
fn every_story_ends_well_fourth_share() {
    simulate(3);
}

/// Plays the seeds in `FORT_AGENT_SEED`, for whoever looks into a failure.
#[test]
fn a_seed_can_be_played_again() {
    let seed = std::env::var("FORT_AGENT_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let story = Story::by_chance(seed);
    if play(&story, false).wrong.is_some() {
        panic!("{}", report(story));
    }
}
