//! A listener of its own, for services that have no HTTP server.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

use crate::{
    admission::Seat,
    app::App,
    hub::Hub,
    telemetry::{REFUSED, Refusal},
    upgrade::{Refused, upgrade, upgrade_seated},
};

/// The longest head of a handshake request in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Accepts connections for `app` until the hub's shutdown begins.
///
/// A handshake must be finished within the hub's deadline, and no more of them are open at a time
/// than the hub admits connections.
///
/// # Errors
///
/// What accepting fails with for good; a connection that fails is only logged.
///
/// # Cancel safety
///
/// Dropping the future stops accepting; open connections go on.
pub async fn serve<A: App>(listener: TcpListener, hub: Arc<Hub>, app: Arc<A>) -> io::Result<()> {
    accept(listener, hub, app, |socket| std::future::ready(Ok(socket))).await
}

/// Serves one client over a stream of any kind, such as a Unix socket, a tunnel or a pipe of a test.
///
/// `peer` stands for the client's address in limits and facts. The future ends with the handshake;
/// the connection goes on as a task of the hub's shutdown.
///
/// # Cancel safety
///
/// Dropping the future before the handshake is done gives the client up.
pub async fn serve_stream<S, A>(stream: S, peer: SocketAddr, hub: &Arc<Hub>, app: &Arc<A>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: App,
{
    let Some(seat) = hub.admission.admit(peer.ip()) else {
        REFUSED.add_for(Refusal::Limit, 1);
        return;
    };
    handshake(std::future::ready(Ok(stream)), (peer, seat), hub, app).await;
}

/// Accepts sockets, and makes of each what the connection is to run over.
pub(crate) async fn accept<A, S, F>(
    listener: TcpListener,
    hub: Arc<Hub>,
    app: Arc<A>,
    secure: impl Fn(TcpStream) -> F + Send,
) -> io::Result<()>
where
    A: App,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
{
    let stop = hub.shutdown.stop();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.requested() => return Ok(()),
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: others must end before it goes on.
                tracing::warn!(error = &error as &dyn std::error::Error, "accept failed");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        // Handshakes count as connections, so half-open ones cannot use up more than the limit.
        let Some(seat) = hub.admission.admit(peer.ip()) else {
            REFUSED.add_for(Refusal::Limit, 1);
            continue;
        };
        // Messages are written in batches already; Nagle's algorithm would only hold them back.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(error = &error as &dyn std::error::Error, "client is gone");
            continue;
        }
        let secured = secure(socket);
        let (hub, app) = (Arc::clone(&hub), Arc::clone(&app));
        hub.shutdown.clone().spawn(async move {
            handshake(secured, (peer, seat), &hub, &app).await;
        });
    }
}

/// Makes both handshakes, that of `stream` and that of RFC 6455, within one deadline.
async fn handshake<S, A>(
    stream: impl Future<Output = io::Result<S>>,
    (peer, seat): (SocketAddr, Seat),
    hub: &Arc<Hub>,
    app: &Arc<A>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: App,
{
    let deadline = hub.options.handshake;
    // The seat of the handshake becomes that of the connection; one socket has one request.
    let seat = Mutex::new(Some(seat));
    let answer = service_fn(|mut request: Request<Incoming>| {
        let answer = match seat.lock().take() {
            Some(seat) => upgrade_seated(hub, app, &mut request, peer, seat),
            None => upgrade(hub, app, &mut request, peer),
        };
        let response = answer.map_or_else(refusal, |response| response.map(|()| Full::default()));
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let both = async {
        let stream = stream.await.inspect_err(|error| {
            tracing::debug!(error = error as &dyn std::error::Error, "no secure connection");
        });
        let Ok(stream) = stream else { return };
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(deadline)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), answer)
            .with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(error = &error as &dyn std::error::Error, "handshake failed");
        }
    };
    let _in_time = tokio::time::timeout(deadline, both).await.is_ok();
}

fn refusal(refused: Refused) -> Response<Full<Bytes>> {
    let mut response = refused.into_response().map(|why| Full::new(Bytes::from(why)));
    // A refused client has nothing more to say on this socket.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
