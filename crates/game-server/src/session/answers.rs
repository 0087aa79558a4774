//! What is said when something cannot be done.

use infra_core::ErrorKind;
use infra_ws::{Close as WsClose, token::TokenError};

use super::conversation::Session;
use crate::{
    protocol::{Close, Code, ErrorCode, Fault, Refused, ServerMessage, Setback},
    rooms::close_of,
};

pub(super) use crate::protocol::STORAGE_PAUSE;

/// Creates a refusal; the request's name is filled in where it is known.
pub(super) fn refused(code: impl Into<Code>) -> Refused {
    let code = code.into();
    let refused = Refused::new("", code);
    match code {
        Code::Server(setback) if setback.is_temporary() => refused.retry_after_ms(STORAGE_PAUSE),
        Code::Server(_) | Code::Game(_) => refused,
    }
}

/// Says what a failed port means to a client.
pub(super) fn setback(error: &infra_core::Error) -> Refused {
    tracing::warn!(error = error as &dyn std::error::Error, "request not served");
    let is_overloaded = matches!(error.kind(), ErrorKind::Overloaded);
    refused(if is_overloaded { Setback::Overloaded } else { Setback::StorageUnavailable })
}

pub(super) fn fault(code: ErrorCode, message: &str, fatal: bool) -> ServerMessage {
    let message = message.to_owned();
    ServerMessage::Error(Fault { code, message, field: None, action: None, fatal })
}

pub(super) fn refuse_token(session: &Session, error: TokenError) -> WsClose {
    let (code, close) = match error {
        TokenError::Malformed | TokenError::Forged => (ErrorCode::TokenForged, Close::TokenForged),
        TokenError::Expired | TokenError::Superseded => {
            (ErrorCode::TokenExpired, Close::TokenExpired)
        }
    };
    session.say(&fault(code, &error.to_string(), true));
    close_of(close)
}
