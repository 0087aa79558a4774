//! WebSocket connections, rooms and broadcast with bounded queues and resume.
