//! A gauge that may have no value: it is then absent, not zero.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

/// Gauge of a whole number that may be unknown. Clones are the same gauge.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<Mutex<Option<i64>>>);

impl Known {
    pub(super) fn set(&self, value: impl Into<Option<i64>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value.into();
    }

    fn value(&self) -> Option<i64> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EncodeMetric for Known {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.value().map_or(Ok(()), |value| encoder.encode_gauge(&value))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.value().is_none()
    }
}
