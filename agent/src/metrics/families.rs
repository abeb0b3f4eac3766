//! Families of metrics, and how they are registered and set.

use super::*;

pub(super) type Labels = Vec<(&'static str, String)>;

pub(super) type Gauges = Family<Labels, Gauge>;

pub(super) type Counters = Family<Labels, Counter>;

pub(super) fn deployment(operation: Operation, verdict: Ending) -> Labels {
    vec![("operation", operation.as_str().into()), ("verdict", verdict.as_str().into())]
}

pub(super) fn gauges(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    let family = Gauges::default();
    registry.register(name, help, family.clone());
    family
}

pub(super) fn known(registry: &mut Registry, name: &str, help: &str) -> Known {
    let known = Known::default();
    registry.register(name, help, known.clone());
    known
}

pub(super) fn timestamp(registry: &mut Registry, name: &str, help: &str) -> Known {
    let known = Known::default();
    registry.register_with_unit(name, help, Unit::Seconds, known.clone());
    known
}

pub(super) fn timestamps(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    let family = Gauges::default();
    registry.register_with_unit(name, help, Unit::Seconds, family.clone());
    family
}

pub(super) fn counters(registry: &mut Registry, name: &str, help: &str) -> Counters {
    let family = Counters::default();
    registry.register(name, help, family.clone());
    family
}

pub(super) fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

pub(super) fn buckets() -> Histogram {
    Histogram::new(BUCKETS)
}

pub(super) fn set<const N: usize>(
    family: &Gauges,
    labels: [(&'static str, String); N],
    value: i64,
) {
    family.get_or_create(&labels.into()).set(value);
}

pub(super) fn seconds(time: Wall) -> i64 {
    time.as_millis().div_euclid(1000)
}
