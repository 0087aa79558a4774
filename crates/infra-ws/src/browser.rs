//! The ES modules of the browser's client, for whoever serves a page.
//!
//! They depend on nothing and import each other by `./NAME`, so serve them side by side, as
//! `text/javascript`: [`LINK`] stays connected, and is of use for any protocol of JSON messages;
//! [`ROOMS`] speaks the protocol of rooms over it, with resume, requests and state by [`DELTA`].
//! `crypto.subtle` exists in secure contexts alone: HTTPS, or loopback.
//!
//! ```
//! assert!(infra_ws::browser::ROOMS.contains("from \"./link.js\""));
//! ```

/// `link.js`: a WebSocket that comes back after growing, scattered pauses.
pub const LINK: &str = include_str!("../web/link.js");

/// `rooms.js`: the client of the protocol of rooms.
pub const ROOMS: &str = include_str!("../web/rooms.js");

/// `delta.js`: patches and hashes of a room's state.
pub const DELTA: &str = include_str!("../web/delta.js");
