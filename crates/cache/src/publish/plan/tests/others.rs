//! Paths that another host sends as well.

use super::*;

#[test]
fn what_was_held_back_until_the_answer_cannot_be_from_here_either() {
    let infos = BTreeMap::from([(path(0), info([])), (path(1), info([0])), (path(2), info([0]))]);
    let mut queue = queue(&infos, 0);
    for place in 0..3 {
        assert_eq!(queue.take(ZERO, NOTHING_LEFT), Some(place));
    }
    let (elsewhere, effects) = queue.answered(&[0, 1, 2], ZERO, |_| false, |at| at > 0);
    assert_eq!(elsewhere, [0, 1, 2]);
    assert_eq!(effects, Effects { release: vec![], recall: vec![0, 1, 2] });
    assert!(queue.is_over());
}

#[test]
fn what_another_host_seems_to_be_sending_is_left_to_it_for_a_while() {
    let infos = chain(3);
    let mut queue = queue(&infos, 0);
    let leave = PublishLimits::JOB.leave;
    let (elsewhere, _) = queue.answered(&[0], ZERO, |_| false, |_| false);
    assert_eq!(elsewhere, [0]);
    assert!(queue.is_left_to_others(leave / 2 - Duration::from_millis(1)));
    assert_eq!(queue.take(leave / 3, NOTHING_LEFT), None);
    // It goes on: so does waiting for it.
    let asked = queue.ask(leave);
    assert_eq!(asked, [1, 2]);
    queue.answered(&asked, leave, |at| at == 2, |_| false);
    assert_eq!(queue.take(leave + leave / 3, NOTHING_LEFT), None);
    // It is seen no more.
    let end = leave + 2 * leave;
    assert!(!queue.is_left_to_others(end) && !queue.is_over());
    queue.answered(&[2], end, |_| true, |_| false);
    assert_eq!(queue.take(end, NOTHING_LEFT), Some(2));
}

#[test]
fn what_would_follow_a_path_that_came_from_elsewhere_is_left_to_that_host() {
    let infos = chain(6);
    let mut queue = queue(&infos, 0);
    for place in 0..3 {
        assert_eq!(queue.take(ZERO, NOTHING_LEFT), Some(place));
    }
    let (elsewhere, effects) = queue.answered(&[0], ZERO, |_| false, |_| false);
    // What is under way goes on, if it does not come from there as well.
    assert_eq!((elsewhere, effects), (vec![0], Effects { release: vec![], recall: vec![0] }));
    assert!(queue.is_held(1) && !queue.waits(1));
    let soon = PublishLimits::JOB.leave / 3;
    queue.note(soon, |at| at == 1);
    let asked = queue.ask(soon);
    let (elsewhere, effects) = queue.answered(&asked, soon, |_| true, |_| true);
    assert_eq!(elsewhere, [0; 0]);
    assert_eq!(effects, Effects { release: vec![1], ..Effects::default() });
    assert_eq!(queue.take(soon, NOTHING_LEFT), None);
    assert_eq!(
        queue.confirm(1, Confirmed::Here, soon),
        Effects { release: vec![2], ..Effects::default() }
    );
    queue.confirm(2, Confirmed::Here, soon);
    assert_eq!(queue.take(soon, NOTHING_LEFT), None);
    assert!(queue.is_left_to_others(soon) && !queue.is_over());
    let end = 2 * PublishLimits::JOB.leave;
    queue.answered(&[3], end, |_| true, |_| false);
    assert_eq!(queue.take(end, NOTHING_LEFT), Some(3));
}

/// A host that has sent the first of a chain, in a tenth of a second, and looks
/// whether another host sends the second.
fn looking(infos: &BTreeMap<StorePath, PathInfo>) -> Queue {
    let tenth = Duration::from_millis(100);
    let mut queue = queue(infos, 0);
    queue.looks.next_in = 2;
    assert_eq!(queue.take(ZERO, NOTHING_LEFT), Some(0));
    queue.note(ZERO, |_| true);
    assert_eq!(queue.confirm(0, Confirmed::Here, tenth), Effects::default());
    assert_eq!(queue.take(tenth, NOTHING_LEFT), Some(1));
    assert_eq!(queue.take(tenth, NOTHING_LEFT), Some(2));
    queue.note(tenth, |_| true);
    assert_eq!(queue.confirm(1, Confirmed::Here, 2 * tenth), Effects::default());
    assert!(queue.is_held(2) && !queue.waits(2));
    queue.note(2 * tenth, |_| true);
    queue
}

#[test]
fn a_host_that_finds_what_it_holds_back_leaves_the_rest_to_the_other() {
    let mut queue = looking(&chain(5));
    // Twice to four times as long as an end takes.
    let asks_in = queue.asks_in(ZERO).unwrap();
    assert!((400..=600).contains(&asks_in.as_millis()), "{asks_in:?}");
    let asked = queue.ask(asks_in);
    let (elsewhere, effects) = queue.answered(&asked, asks_in, |at| at != 2, |_| true);
    assert_eq!((elsewhere, effects), (vec![2], Effects { release: vec![], recall: vec![2] }));
    assert!(queue.is_left_to_others(asks_in));
}

#[test]
fn an_end_that_was_held_back_for_a_look_leaves_if_the_cache_lacks_the_path() {
    let mut queue = looking(&chain(5));
    let asks_at = queue.asks_in(ZERO).unwrap();
    // That the other host was not as far says nothing.
    let before = asks_at - Duration::from_millis(1);
    queue.ask(before);
    let (_, effects) = queue.answered(&[2, 3], before, |_| true, |_| true);
    assert_eq!(effects, Effects::default());
    assert!(queue.is_held(2));
    let asked = queue.ask(asks_at);
    assert!(asked.contains(&2));
    let (_, effects) = queue.answered(&asked, asks_at, |_| true, |_| true);
    assert_eq!(effects, Effects { release: vec![2], recall: vec![] });
    assert_eq!((queue.asks_in(asks_at), queue.is_held(2)), (None, false));
}
