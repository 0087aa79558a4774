//! One POST to the collector.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use infra_core::{Error, ErrorKind, Result};
use tokio::net::TcpStream;

/// Sends a body; an answer that is not a success is an error.
///
/// Each batch has a connection of its own: some a minute are not worth a pool.
pub(super) async fn post(address: &str, path: &str, body: Bytes) -> Result<()> {
    let failed = |cause| Error::new(ErrorKind::Unavailable, "export to collector").because(cause);
    let socket = TcpStream::connect(address).await.map_err(failed)?;
    let gone = |cause: hyper::Error| {
        Error::new(ErrorKind::Unavailable, "export to collector").because(cause)
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(gone)?;
    let request = Request::post(path)
        .header(header::HOST, address)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::new(body))
        .map_err(|cause| Error::invalid("export to collector", "address or path").because(cause))?;
    // The connection is driven beside the request, in this task: dropping one drops both.
    let answer = async { sender.send_request(request).await.map_err(gone) };
    tokio::pin!(answer);
    let answer = tokio::select! {
        answer = &mut answer => answer?,
        ended = connection => {
            ended.map_err(gone)?;
            // The answer may have come with the end.
            answer.await?
        }
    };
    judge(answer.status())
}

fn judge(status: StatusCode) -> Result<()> {
    let kind = match status {
        status if status.is_success() => return Ok(()),
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => ErrorKind::Unavailable,
        _ => ErrorKind::Invalid,
    };
    Err(Error::new(kind, "export to collector").detail(status.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_tried_again_is_told_from_what_may_not() {
        let kind =
            |code: u16| judge(StatusCode::from_u16(code).unwrap()).map_err(|e| e.kind().clone());
        assert_eq!(kind(200), Ok(()));
        assert_eq!(kind(503), Err(ErrorKind::Unavailable));
        assert_eq!(kind(400), Err(ErrorKind::Invalid));
    }
}
