//! A listener of its own, for services that have no HTTP server.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    admission::Seat,
    app::App,
    hub::Hub,
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
        let Some(seat) = hub.admission.admit(peer.ip()) else { continue };
        let (hub, app) = (Arc::clone(&hub), Arc::clone(&app));
        hub.shutdown.clone().spawn(async move {
            handshake(socket, peer, hub, app, seat).await;
        });
    }
}

async fn handshake<A: App>(
    socket: TcpStream,
    peer: SocketAddr,
    hub: Arc<Hub>,
    app: Arc<A>,
    seat: Seat,
) {
    let deadline = hub.options.handshake;
    // The seat of the handshake becomes that of the connection; one socket has one request.
    let seat = Mutex::new(Some(seat));
    let answer = service_fn(|mut request: Request<Incoming>| {
        let answer = match seat.lock().take() {
            Some(seat) => upgrade_seated(&hub, &app, &mut request, peer, seat),
            None => upgrade(&hub, &app, &mut request, peer),
        };
        let response = answer.map_or_else(refusal, |response| response.map(|()| Full::default()));
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(deadline)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), answer)
        .with_upgrades();
    if let Ok(Err(error)) = tokio::time::timeout(deadline, connection).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "handshake failed");
    }
}

fn refusal(refused: Refused) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(refused.why)));
    *response.status_mut() = refused.status;
    let headers = response.headers_mut();
    // A refused client has nothing more to say on this socket.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    if let Some((name, value)) = refused.header {
        headers.insert(name, value);
    }
    response
}
