//! One request to the receiver, over gRPC or HTTP (OTLP 1.10).

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use http::uri::Scheme;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client as HttpClient, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse, logs_service_client::LogsServiceClient,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
    metrics_service_client::MetricsServiceClient,
};
use prost::Message;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::OtlpError;
use crate::authorities::{self, AuthorityError};
use crate::config::otlp::{Compression, OtlpConfig, Protocol};
use crate::explain::explain;
use crate::export::compression::gzip;

/// Most of an answer that is read, bytes.
const ANSWER_BYTES: usize = 64 << 10;

/// A connection that carried nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(90);

const AGENT: &str = concat!("resumetry/", env!("CARGO_PKG_VERSION"));

type Grpc = HttpClient<HttpsConnector<HttpConnector>, tonic::body::Body>;

/// Speaks to one receiver.
#[derive(Clone)]
pub(super) struct Client {
    transport: Transport,
    timeout: Duration,
}

#[derive(Clone)]
enum Transport {
    Grpc(Box<GrpcClients>),
    Http(Box<HttpSettings>),
}

#[derive(Clone)]
struct HttpSettings {
    client: HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Without the path of the signal.
    endpoint: String,
    headers: HeaderMap,
    compression: Compression,
}

#[derive(Clone)]
struct GrpcClients {
    metrics: MetricsServiceClient<Grpc>,
    logs: LogsServiceClient<Grpc>,
    headers: MetadataMap,
}

/// What is sent.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    Metrics(ExportMetricsServiceRequest),
    Logs(ExportLogsServiceRequest),
}

/// The receiver took the request, or most of it.
#[derive(Debug, Default)]
pub(super) struct Receipt {
    pub(super) rejected: u64,
    pub(super) message: String,
}

/// The receiver did not take the request.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) retry: Retry,
}

/// Whether and when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    Never,
    Later,
    After(Duration),
}

impl Client {
    pub(super) fn new(config: &OtlpConfig) -> Result<Self, OtlpError> {
        let tls = tls(config)?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http();
        let uri = config.endpoint.uri();
        let transport = match config.protocol {
            Protocol::Grpc => {
                let client = HttpClient::builder(TokioExecutor::new())
                    .http2_only(true)
                    .pool_timer(TokioTimer::new())
                    .pool_idle_timeout(IDLE)
                    .build(connector.enable_http2().build());
                let mut metrics = MetricsServiceClient::with_origin(client.clone(), uri.clone());
                let mut logs = LogsServiceClient::with_origin(client, uri.clone());
                if config.compression == Compression::Gzip {
                    metrics = metrics.send_compressed(CompressionEncoding::Gzip);
                    logs = logs.send_compressed(CompressionEncoding::Gzip);
                }
                Transport::Grpc(Box::new(GrpcClients {
                    metrics: metrics.accept_compressed(CompressionEncoding::Gzip),
                    logs: logs.accept_compressed(CompressionEncoding::Gzip),
                    headers: MetadataMap::from_headers(headers(config)),
                }))
            }
            Protocol::HttpProtobuf => Transport::Http(Box::new(HttpSettings {
                client: HttpClient::builder(TokioExecutor::new())
                    .pool_timer(TokioTimer::new())
                    .pool_idle_timeout(IDLE)
                    .build(connector.enable_http1().build()),
                endpoint: uri.to_string().trim_end_matches('/').to_owned(),
                headers: headers(config),
                compression: config.compression,
            })),
        };
        Ok(Self {
            transport,
            timeout: config.timeout,
        })
    }

    /// Sends once.
    pub(super) async fn send(&mut self, payload: &Payload) -> Result<Receipt, Refusal> {
        let timeout = self.timeout;
        tokio::time::timeout(timeout, self.send_at_leisure(payload))
            .await
            .unwrap_or_else(|_| {
                Err(Refusal {
                    message: format!("no answer within {timeout:?}"),
                    retry: Retry::Later,
                })
            })
    }

    async fn send_at_leisure(&mut self, payload: &Payload) -> Result<Receipt, Refusal> {
        match &mut self.transport {
            Transport::Grpc(clients) => match payload {
                Payload::Metrics(request) => {
                    let request = with_headers(request.clone(), &clients.headers);
                    let answer = clients.metrics.export(request).await.map_err(refused)?;
                    Ok(answer.into_inner().into())
                }
                Payload::Logs(request) => {
                    let request = with_headers(request.clone(), &clients.headers);
                    let answer = clients.logs.export(request).await.map_err(refused)?;
                    Ok(answer.into_inner().into())
                }
            },
            Transport::Http(settings) => {
                let endpoint = &settings.endpoint;
                let (path, body) = match payload {
                    Payload::Metrics(request) => ("/v1/metrics", request.encode_to_vec()),
                    Payload::Logs(request) => ("/v1/logs", request.encode_to_vec()),
                };
                let request = post(
                    &format!("{endpoint}{path}"),
                    &settings.headers,
                    settings.compression,
                    body,
                )?;
                let answer = settings
                    .client
                    .request(request)
                    .await
                    .map_err(|error| Refusal {
                        message: explain(&error),
                        retry: Retry::Later,
                    })?;
                let (head, body) = answer.into_parts();
                let body = Limited::new(body, ANSWER_BYTES).collect().await;
                let body = body.map(|body| body.to_bytes()).unwrap_or_default();
                if !head.status.is_success() {
                    return Err(refused_by_http(head.status, &head.headers, &body));
                }
                // An answer that cannot be read is no reason to send again what was taken.
                Ok(match payload {
                    Payload::Metrics(_) => ExportMetricsServiceResponse::decode(body)
                        .unwrap_or_default()
                        .into(),
                    Payload::Logs(_) => ExportLogsServiceResponse::decode(body)
                        .unwrap_or_default()
                        .into(),
                })
            }
        }
    }
}

impl From<ExportMetricsServiceResponse> for Receipt {
    fn from(answer: ExportMetricsServiceResponse) -> Self {
        answer
            .partial_success
            .map_or_else(Self::default, |partial| {
                Self::partial(partial.rejected_data_points, partial.error_message)
            })
    }
}

impl From<ExportLogsServiceResponse> for Receipt {
    fn from(answer: ExportLogsServiceResponse) -> Self {
        answer
            .partial_success
            .map_or_else(Self::default, |partial| {
                Self::partial(partial.rejected_log_records, partial.error_message)
            })
    }
}

impl Receipt {
    fn partial(rejected: i64, message: String) -> Self {
        Self {
            rejected: u64::try_from(rejected).unwrap_or(0),
            message,
        }
    }
}

fn headers(config: &OtlpConfig) -> HeaderMap {
    let mut headers: HeaderMap = config
        .headers
        .iter()
        .map(|header| (header.name.clone(), header.value.clone()))
        .collect();
    headers
        .entry(USER_AGENT)
        .or_insert(HeaderValue::from_static(AGENT));
    headers
}

fn with_headers<T>(request: T, headers: &MetadataMap) -> tonic::Request<T> {
    tonic::Request::from_parts(headers.clone(), tonic::Extensions::default(), request)
}

fn post(
    uri: &str,
    headers: &HeaderMap<HeaderValue>,
    compression: Compression,
    body: Vec<u8>,
) -> Result<Request<Full<Bytes>>, Refusal> {
    let never = |message: String| Refusal {
        message,
        retry: Retry::Never,
    };
    let mut request = Request::new(Full::default());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri
        .parse()
        .map_err(|error: http::uri::InvalidUri| never(error.to_string()))?;
    let all = request.headers_mut();
    all.extend(
        headers
            .iter()
            .map(|(name, value): (&HeaderName, _)| (name.clone(), value.clone())),
    );
    all.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-protobuf"),
    );
    let body = match compression {
        Compression::None => body,
        Compression::Gzip => {
            all.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            gzip(|out| io::Write::write_all(out, &body))
                .map_err(|error| never(error.to_string()))?
        }
    };
    *request.body_mut() = Full::new(body.into());
    Ok(request)
}

/// OTLP specification, "Failures" of OTLP/gRPC: which codes may go away by themselves.
fn refused(status: Status) -> Refusal {
    let wait = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay);
    let retry = match (status.code(), wait) {
        (_, Some(wait)) => Retry::After(wait),
        (
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss,
            None,
        ) => Retry::Later,
        // No status of the receiver: it could not be reached.
        _ if status.source().is_some() => Retry::Later,
        _ => Retry::Never,
    };
    let message = match status.source() {
        Some(source) => explain(source),
        None => format!("gRPC status {:?}: {}", status.code(), status.message()),
    };
    Refusal { message, retry }
}

/// OTLP specification, "Failures" of OTLP/HTTP.
fn refused_by_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
    let wait = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let retry = match status.as_u16() {
        429 | 502 | 503 | 504 => wait.map_or(Retry::Later, Retry::After),
        _ => Retry::Never,
    };
    // Receivers answer with text, or with a Status message, of which the text is most.
    let text: String = String::from_utf8_lossy(body)
        .chars()
        .filter(|letter| !letter.is_control())
        .take(200)
        .collect();
    Refusal {
        message: format!("HTTP status {status}: {text}"),
        retry,
    }
}

/// Trust in the authorities of `--otlp-ca`, else in those of the system.
fn tls(config: &OtlpConfig) -> Result<ClientConfig, OtlpError> {
    let needs_them = config.ca.is_some() || is_https(config.endpoint.uri());
    let roots = match needs_them {
        true => authorities::trusted(config.ca.as_deref()).map_err(unusable)?,
        false => RootCertStore::empty(),
    };
    let builder = ClientConfig::builder_with_provider(ring::default_provider().into());
    Ok(builder
        .with_safe_default_protocol_versions()
        .map_err(|error| OtlpError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn unusable(error: AuthorityError) -> OtlpError {
    match error {
        AuthorityError::File { path, reason } => OtlpError::Authority {
            path,
            message: reason,
        },
        AuthorityError::None => OtlpError::NoAuthorities,
    }
}

fn is_https(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_go_away_is_tried_again() {
        let headers = HeaderMap::new();
        let retry = |status| refused_by_http(status, &headers, b"").retry;
        assert_eq!(retry(StatusCode::SERVICE_UNAVAILABLE), Retry::Later);
        assert_eq!(retry(StatusCode::BAD_REQUEST), Retry::Never);
        assert_eq!(retry(StatusCode::INTERNAL_SERVER_ERROR), Retry::Never);
        let grpc = |code| refused(Status::new(code, "")).retry;
        assert_eq!(grpc(Code::Unavailable), Retry::Later);
        assert_eq!(grpc(Code::InvalidArgument), Retry::Never);
        // Without a time to come back the receiver does not expect to recover.
        assert_eq!(grpc(Code::ResourceExhausted), Retry::Never);
    }

    #[test]
    fn the_receiver_says_when_to_come_back() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
        let refusal = refused_by_http(StatusCode::TOO_MANY_REQUESTS, &headers, b"later\n");
        assert_eq!(refusal.retry, Retry::After(Duration::from_secs(7)));
        assert_eq!(refusal.message, "HTTP status 429 Too Many Requests: later");
        let details = tonic_types::ErrorDetails::with_retry_info(Some(Duration::from_secs(3)));
        let status = Status::with_error_details(Code::ResourceExhausted, "busy", details);
        assert_eq!(refused(status).retry, Retry::After(Duration::from_secs(3)));
    }
}
