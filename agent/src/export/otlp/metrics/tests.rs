#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::sync::Arc;

use super::*;
use crate::core::aggregate::AggregateConfig;
use crate::export::State;
use crate::export::metrics::families;
use crate::export::metrics::tests::handshake;

const START: u64 = 1_000;

fn state() -> Arc<State> {
    let labels = vec![("pop".to_owned(), "fra1".to_owned())];
    let state = State::new(AggregateConfig::default(), labels);
    for service in ["nginx", "haproxy"] {
        state.record(&handshake("example.com"), Some(service), 0);
    }
    state.record(&handshake("example.org"), None, 0);
    Arc::new(state)
}

fn identity() -> Identity {
    Identity::new("node-1", [("pop", "fra1"), ("host.name", "node-one")])
}

fn export(state: &Arc<State>, starts: &mut Starts, now_ns: u64) -> Vec<Batch> {
    requests(&families(state).unwrap(), &identity(), starts, now_ns)
}

fn attribute_of<'a>(attributes: &'a [KeyValue], name: &str) -> Option<&'a str> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let attribute = attributes.iter().find(|attribute| attribute.key == name)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Service and metric of everything in `batches`.
fn metrics(batches: &[Batch]) -> Vec<(&str, &Metric)> {
    let resources = batches
        .iter()
        .flat_map(|batch| &batch.request.resource_metrics);
    resources
        .flat_map(|part| {
            let attributes = &part.resource.as_ref().unwrap().attributes;
            assert_eq!(attribute_of(attributes, "pop"), Some("fra1"));
            assert_eq!(attribute_of(attributes, "host.name"), Some("node-one"));
            let service = attribute_of(attributes, "service.name").unwrap();
            let scopes = part.scope_metrics.iter();
            scopes
                .flat_map(|scope| &scope.metrics)
                .map(move |metric| (service, metric))
        })
        .collect()
}

/// Start time and value of the handshakes of a service.
fn handshakes(batches: &[Batch], service: &str) -> (u64, i64) {
    let all = metrics(batches);
    let (_, metric) = all
        .iter()
        .find(|(of, metric)| *of == service && metric.name == "tls.handshakes")
        .unwrap();
    let Some(Data::Sum(sum)) = &metric.data else {
        panic!("{metric:?}");
    };
    assert!(sum.is_monotonic);
    let [point] = &sum.data_points[..] else {
        panic!("{sum:?}");
    };
    let name = attribute_of(&point.attributes, "server.address").unwrap();
    assert!(name.starts_with("example."), "{name}");
    assert_eq!(attribute_of(&point.attributes, "service"), None);
    match point.value {
        Some(Value::AsInt(value)) => (point.start_time_unix_nano, value),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_service_is_a_resource_of_its_own() {
    let batches = export(&state(), &mut Starts::new(START), 2_000);
    for service in ["nginx", "haproxy", UNKNOWN_SERVICE] {
        assert_eq!(handshakes(&batches, service), (START, 1));
    }
    let mut own = metrics(&batches);
    own.retain(|(service, _)| *service == "resumetry");
    assert!(
        own.iter()
            .any(|(_, metric)| metric.name == "resumetry.events")
    );
}

#[test]
fn buckets_are_single_and_the_last_has_no_bound() {
    let batches = export(&state(), &mut Starts::new(START), 2_000);
    let all = metrics(&batches);
    let (_, metric) = all
        .iter()
        .find(|(_, metric)| metric.name == "tls.handshake.duration")
        .unwrap();
    assert_eq!(metric.unit, "s");
    let Some(Data::Histogram(histogram)) = &metric.data else {
        panic!("{metric:?}");
    };
    let point = &histogram.data_points[0];
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), 1);
    // 1.5 ms.
    let bucket = point.bucket_counts.iter().position(|count| *count == 1);
    assert_eq!(point.explicit_bounds[bucket.unwrap()], 0.002_5);
    assert_eq!(point.sum, Some(0.001_5));
}

#[test]
fn a_series_that_comes_back_starts_anew() {
    let mut starts = Starts::new(START);
    let state = state();
    assert_eq!(
        handshakes(&export(&state, &mut starts, 2_000), "nginx"),
        (START, 1)
    );
    state.record(&handshake("example.com"), Some("nginx"), 0);
    assert_eq!(
        handshakes(&export(&state, &mut starts, 3_000), "nginx"),
        (START, 2)
    );
    // Idle for longer than series live, then one more.
    let hour = AggregateConfig::default().series_ttl_ns;
    state.expire(2 * hour);
    export(&state, &mut starts, 4_000);
    state.record(&handshake("example.com"), Some("nginx"), 2 * hour);
    assert_eq!(
        handshakes(&export(&state, &mut starts, 5_000), "nginx"),
        (4_000, 1)
    );
}

#[test]
fn requests_stay_small() {
    let state = Arc::new(State::new(AggregateConfig::default(), Vec::new()));
    for number in 0..1_000 {
        let name = format!("{number}.example.com");
        state.record(&handshake(&name), Some("nginx"), 0);
    }
    let families = families(&state).unwrap();
    let points: usize = families.iter().map(|family| family.metric.len()).sum();
    let batches = requests(&families, &identity(), &mut Starts::new(START), 2_000);
    assert_eq!(
        batches.iter().map(|batch| batch.points).sum::<u64>(),
        points as u64
    );
    assert!(batches.len() > 1);
    for batch in &batches {
        assert!(batch.points <= POINTS_PER_REQUEST as u64);
        assert!(prost::Message::encoded_len(&batch.request) < 2 << 20);
    }
}
