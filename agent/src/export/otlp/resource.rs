//! Who sends: the attributes of resources and the scope.

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

/// The service that the agent's own metrics belong to.
const OWN_SERVICE: &str = "resumetry";

/// A service on this host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Observed<'a> {
    pub(super) name: &'a str,
    /// Attributes of its resource besides: the pod that it runs in.
    pub(super) further: Vec<(&'a str, &'a str)>,
}

/// What all resources of this agent have in common.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    attributes: Vec<KeyValue>,
}

impl Identity {
    /// `host` is the name of this host; the later of two attributes of one name counts, so that a user
    /// can correct what was found out.
    pub(super) fn new<'a>(
        host: &str,
        further: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut attributes = vec![
            text("host.name", host),
            text("host.arch", arch()),
            text("os.type", "linux"),
        ];
        for (name, value) in further {
            attributes.retain(|known| known.key != name);
            attributes.push(text(name, value));
        }
        Self { attributes }
    }

    /// The resource of an observed service, or of the agent.
    pub(super) fn resource(&self, service: Option<&Observed<'_>>) -> Resource {
        let name = service.map_or(OWN_SERVICE, |service| service.name);
        let mut attributes = vec![text("service.name", name)];
        match service {
            None => attributes.push(text("service.version", env!("CARGO_PKG_VERSION"))),
            Some(service) => {
                let further = service.further.iter();
                attributes.extend(further.map(|(name, value)| text(name, value)));
            }
        }
        // What a user set is about the host or the deployment; a service keeps its own name.
        let further = self.attributes.iter();
        attributes.extend(further.filter(|known| known.key != "service.name").cloned());
        Resource {
            attributes,
            dropped_attributes_count: 0,
            entity_refs: Vec::new(),
        }
    }
}

/// As OpenTelemetry's conventions spell it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The scope of everything that is sent.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "resumetry".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// An attribute that is text.
pub(super) fn text(name: &str, value: &str) -> KeyValue {
    attribute(name, Value::StringValue(value.to_owned()))
}

/// An attribute of any kind.
pub(super) fn attribute(name: &str, value: Value) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
