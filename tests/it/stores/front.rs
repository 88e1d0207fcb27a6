//! A front before a store's server: it passes requests on, does to each what a rule says, and keeps a list of them. It
//! may speak another dialect than the server behind it (see [`super::dialect`]).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::dialect::Dialect;
use super::faults::Fault;

type Rule = Box<dyn FnMut(&Seen) -> Fault + Send>;
type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Counted from 1, since the rule was set.
    pub number: usize,
    pub method: Method,
    /// With its query, as it came.
    pub path: String,
    pub fault: Fault,
}

/// A front that runs until it is dropped.
pub struct Front {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    upstream: String,
    dialect: Dialect,
    state: Mutex<State>,
    client: reqwest::Client,
}

struct State {
    rule: Rule,
    seen: Vec<Seen>,
}

impl Front {
    /// Before the server at `upstream`.
    pub fn new(upstream: &str, dialect: Dialect) -> Front {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let client = reqwest::Client::builder().no_proxy().no_gzip().build().unwrap();
        let shared = Arc::new(Shared {
            upstream: format!("http://{upstream}"),
            dialect,
            state: Mutex::new(State {
                rule: Box::new(|_| Fault::None),
                seen: Vec::new(),
            }),
            client,
        });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(accept(listener, shared.clone()));
        Front {
            address,
            shared,
            runtime: Some(runtime),
        }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on this happens to requests; they are counted anew.
    pub fn set_rule(&self, rule: impl FnMut(&Seen) -> Fault + Send + 'static) {
        let mut state = self.shared.state.lock().unwrap();
        state.rule = Box::new(rule);
        state.seen.clear();
    }

    /// The requests since the rule was set.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state.lock().unwrap().seen.clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seen = self.shared.state.lock().map(|state| state.seen.clone());
            for seen in seen.unwrap_or_default().iter().rev().take(30).rev() {
                println!("{} {} {}: {:?}", seen.number, seen.method, seen.path, seen.fault);
            }
        }
        // Requests that are stalled on purpose would be waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (shared, socket) = (shared.clone(), stream.as_raw_fd());
        tokio::spawn(async move {
            let service = service_fn(|request| answer(&shared, socket, request));
            let connection = hyper::server::conn::http1::Builder::new()
                .half_close(false)
                .serve_connection(TokioIo::new(stream), service);
            // How it ends is the client's matter.
            let _ = connection.await;
        });
    }
}

/// An answer, or an error that closes the connection without one.
async fn answer(
    shared: &Shared,
    socket: RawFd,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let fault = shared.note(&request);
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    match fault {
        Fault::Delay(pause) => tokio::time::sleep(pause).await,
        Fault::Busy => {
            return Ok(shared
                .dialect
                .refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")
                .map(full));
        }
        Fault::Expired => {
            return Ok(shared
                .dialect
                .refusal(StatusCode::FORBIDDEN, "ExpiredToken")
                .map(full));
        }
        Fault::Refuse(status, code) => {
            let status = StatusCode::from_u16(status).unwrap();
            return Ok(shared.dialect.refusal(status, code).map(full));
        }
        Fault::ResetBefore => return Err(reset(socket)),
        Fault::Stall => std::future::pending().await,
        _ => {}
    }
    let forwarded = shared.forward(parts, body).await;
    let (parts, body) = forwarded.into_parts();
    let half = body.slice(..body.len() / 2);
    Ok(match fault {
        Fault::ResetAfter => return Err(reset(socket)),
        Fault::CloseAfter => return Err(std::io::Error::other("closed on purpose")),
        Fault::Truncate if body.is_empty() => return Err(reset(socket)),
        Fault::Truncate => {
            reset(socket);
            let end = Err(std::io::Error::other("broken off on purpose"));
            let frames = stream::iter([Ok(Frame::data(half))]).chain(stream::once(async {
                // What was written before must have gone out.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                end
            }));
            Response::from_parts(parts, BodyExt::boxed_unsync(StreamBody::new(frames)))
        }
        Fault::Halt if body.is_empty() => std::future::pending().await,
        Fault::Halt => {
            let frames = stream::iter([Ok(Frame::data(half))]).chain(stream::pending());
            Response::from_parts(parts, BodyExt::boxed_unsync(StreamBody::new(frames)))
        }
        Fault::Garbage if !body.is_empty() => {
            let refusal = shared.dialect.refusal(StatusCode::OK, "InternalError");
            refusal.map(full)
        }
        _ => Response::from_parts(parts, full(body)),
    })
}

impl Shared {
    fn note(&self, request: &Request<Incoming>) -> Fault {
        let mut state = self.state.lock().unwrap();
        let path = request.uri().path_and_query().map(ToString::to_string);
        let mut seen = Seen {
            number: state.seen.len() + 1,
            method: request.method().clone(),
            path: path.unwrap_or_default(),
            fault: Fault::None,
        };
        seen.fault = (state.rule)(&seen);
        state.seen.push(seen.clone());
        seen.fault
    }

    /// Passes a request on and brings the whole answer back.
    async fn forward(&self, mut parts: hyper::http::request::Parts, body: Bytes) -> Response<Bytes> {
        let path = self.dialect.translate(&mut parts);
        let url = format!("{}{path}", self.upstream).parse().unwrap();
        let mut request = reqwest::Request::new(parts.method.clone(), url);
        *request.headers_mut() = parts.headers.clone();
        *request.body_mut() = Some(body.into());
        let answered = match self.client.execute(request).await {
            Ok(answered) => answered,
            Err(error) => {
                let mut answer = Response::new(Bytes::from(error.to_string()));
                *answer.status_mut() = StatusCode::BAD_GATEWAY;
                return answer;
            }
        };
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = answered.status();
        *answer.headers_mut() = answered.headers().clone();
        answer.headers_mut().remove("transfer-encoding");
        answer.headers_mut().remove("connection");
        *answer.body_mut() = answered.bytes().await.unwrap_or_default();
        self.dialect.translate_back(&parts, &mut answer);
        answer
    }
}

fn full(body: Bytes) -> Body {
    Full::new(body)
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// From now on, closing the connection resets it.
fn reset(socket: RawFd) -> std::io::Error {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let (pointer, length) = ((&raw const linger).cast(), size_of::<libc::linger>());
    // SAFETY: the option's value is a `linger` of that length; a socket that is gone is refused.
    unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            pointer,
            length as libc::socklen_t,
        );
    }
    std::io::Error::other("reset on purpose")
}
