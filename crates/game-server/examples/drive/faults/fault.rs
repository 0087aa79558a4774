//! The faults, how each begins and how it ends, and the runs that they make.

use std::time::Duration;

use infra_testkit::proxy::Weather;

use super::{
    crowd::Crowd,
    stack::{Ground, Program, Stack},
};
use crate::player::Failure;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    PostgresKilled,
    PostgresStopped,
    /// 200 ms on the way to PostgreSQL, in each direction.
    NetworkSlow,
    RedisKilled,
    /// Redis is killed and comes back with nothing in it.
    RedisEmptied,
    /// Redis takes no write, for want of memory.
    RedisFull,
    NatsKilled,
    S3Killed,
    /// The event log gets no new segment.
    DiskFull,
    /// The whole volume has not one byte left.
    VolumeFull,
    /// Each sync of the event log fails; the log is good again only in a new process.
    SyncFails,
    /// Each sync of the event log takes 500 ms.
    SyncSlow,
    /// The wall clock jumps an hour ahead and then two back; each time everybody comes back.
    ClockSkewed,
    /// The server itself stands still.
    ServerStopped,
    /// The server is asked to end, and started again.
    ServerTerminated,
    /// The server is killed, and started again.
    ServerKilled,
}

impl Fault {
    /// Begins it.
    pub(crate) async fn begin(self, stack: &mut Stack, crowd: &Crowd) -> Result<(), Failure> {
        match self {
            Self::PostgresKilled => stack.servers()?.postgres.kill()?,
            Self::PostgresStopped => stack.servers()?.postgres.freeze()?,
            Self::NetworkSlow => {
                let stall = Duration::from_millis(200);
                stack.servers()?.line.weather(Weather::Rough { cut: 0, stalled: 1_000, stall });
            }
            Self::RedisKilled => stack.servers()?.redis.kill()?,
            Self::RedisEmptied => {
                stack.servers()?.tell_redis("FLUSHALL").await?;
                stack.servers()?.redis.kill()?;
            }
            Self::RedisFull => stack.servers()?.tell_redis("CONFIG SET maxmemory 1").await?,
            Self::NatsKilled => stack.servers()?.nats.kill()?,
            Self::S3Killed => stack.servers()?.s3.kill()?,
            Self::DiskFull => stack.inject("full")?,
            Self::VolumeFull => stack.fill()?,
            Self::SyncFails => stack.inject("broken")?,
            Self::SyncSlow => stack.inject("slow")?,
            Self::ClockSkewed => {
                stack.inject("clock 3600")?;
                crowd.come_back();
            }
            Self::ServerStopped => stack.process()?.signal("STOP")?,
            Self::ServerTerminated => {
                stack.stop().await?;
                // What else is wrong may keep it from starting.
                let _serves = stack.serve().is_ok();
            }
            Self::ServerKilled => {
                stack.kill()?;
                let _serves = stack.serve().is_ok();
            }
        }
        Ok(())
    }

    /// Ends it.
    pub(crate) async fn end(self, stack: &mut Stack, crowd: &Crowd) -> Result<(), Failure> {
        match self {
            Self::PostgresKilled => stack.servers()?.postgres.restart().await?,
            Self::PostgresStopped => stack.servers()?.postgres.thaw()?,
            Self::NetworkSlow => stack.servers()?.line.weather(Weather::Calm),
            Self::RedisKilled | Self::RedisEmptied => stack.servers()?.redis.restart().await?,
            Self::RedisFull => stack.servers()?.tell_redis("CONFIG SET maxmemory 0").await?,
            Self::NatsKilled => stack.servers()?.nats.restart().await?,
            Self::S3Killed => stack.servers()?.s3.restart().await?,
            Self::DiskFull | Self::SyncSlow => stack.inject("heal")?,
            Self::VolumeFull => stack.empty()?,
            Self::SyncFails => {
                stack.inject("heal")?;
                stack.stop().await?;
                stack.serve()?;
            }
            Self::ClockSkewed => {
                stack.inject("clock -3600")?;
                crowd.come_back();
            }
            Self::ServerStopped => stack.process()?.signal("CONT")?,
            Self::ServerTerminated | Self::ServerKilled => {
                if !stack.is_serving() {
                    stack.serve_at_last().await?;
                }
            }
        }
        Ok(())
    }

    const fn is_injected(self) -> bool {
        matches!(self, Self::DiskFull | Self::SyncFails | Self::SyncSlow | Self::ClockSkewed)
    }
}

/// A run: faults that come together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What is said of it in the table.
    pub(crate) what: &'static str,
    /// What it is played on.
    pub(crate) ground: Ground,
    /// What goes wrong, in this order.
    pub(crate) faults: &'static [Fault],
    /// How many seconds lie between the beginning and the end.
    pub(crate) seconds: u64,
}

impl Case {
    /// Returns which program serves.
    pub(crate) fn program(&self) -> Program {
        let is_injected = self.faults.iter().any(|fault| fault.is_injected());
        if is_injected { Program::Injected } else { Program::Real }
    }
}

macro_rules! cases {
    ($($name:literal $what:literal $ground:ident [$($fault:ident),*] $seconds:literal;)*) => {
        /// All runs.
        pub(crate) const CASES: &[Case] = &[$(Case {
            name: $name,
            what: $what,
            ground: Ground::$ground,
            faults: &[$(Fault::$fault),*],
            seconds: $seconds,
        }),*];
    };
}

cases! {
    "none" "nothing, on servers" Servers [] 5;
    "none-files" "nothing, on files" Files [] 5;
    "postgres-killed" "PostgreSQL killed, started again after 5 s" Servers [PostgresKilled] 5;
    "postgres-stopped" "PostgreSQL stopped (SIGSTOP) for 5 s" Servers [PostgresStopped] 5;
    "network-slow" "200 ms each way to PostgreSQL for 8 s" Servers [NetworkSlow] 8;
    "redis-killed" "Redis killed, started again after 5 s" Servers [RedisKilled] 5;
    "redis-emptied" "Redis killed, started again with its data lost" Servers [RedisEmptied] 5;
    "redis-full" "Redis at maxmemory for 5 s" Servers [RedisFull] 5;
    "nats-killed" "NATS killed, started again after 5 s" Servers [NatsKilled] 5;
    "s3-killed" "S3 killed, started again after 8 s" Servers [S3Killed] 8;
    "disk-full" "no new segment for the event log for 5 s" Files [DiskFull] 5;
    "volume-full" "the whole volume full for 5 s" Volume [VolumeFull] 5;
    "sync-fails" "fsync fails for 3 s, then a restart" Files [SyncFails] 3;
    "sync-slow" "fsync takes 500 ms for 8 s" Files [SyncSlow] 8;
    "clock-skewed" "wall clock 1 h ahead for 5 s, then 1 h behind; all resume" Servers [ClockSkewed] 5;
    "server-stopped" "the server stopped (SIGSTOP) for 5 s" Servers [ServerStopped] 5;
    "sigterm" "SIGTERM, started again" Servers [ServerTerminated] 0;
    "sigterm-files" "SIGTERM, started again, on files" Files [ServerTerminated] 0;
    "kill-9" "kill -9, started again" Servers [ServerKilled] 0;
    "kill-9-files" "kill -9, started again, on files" Files [ServerKilled] 0;
    "postgres-stopped+nats-killed" "PostgreSQL stopped and NATS killed for 5 s"
        Servers [PostgresStopped, NatsKilled] 5;
    "redis-emptied+kill-9" "Redis killed with its data lost, and kill -9; Redis back after 3 s"
        Servers [RedisEmptied, ServerKilled] 3;
    "network-slow+sigterm" "SIGTERM and start over 200 ms each way"
        Servers [NetworkSlow, ServerTerminated] 3;
    "s3-killed+postgres-killed" "S3 and PostgreSQL killed for 5 s"
        Servers [S3Killed, PostgresKilled] 5;
    "postgres-killed+kill-9" "PostgreSQL killed for 5 s, and kill -9 meanwhile"
        Servers [PostgresKilled, ServerKilled] 5;
    "nats-killed+kill-9" "NATS killed for 5 s, and kill -9 meanwhile"
        Servers [NatsKilled, ServerKilled] 5;
    "s3-killed+sigterm" "S3 killed for 8 s, and SIGTERM meanwhile"
        Servers [S3Killed, ServerTerminated] 3;
    "redis-full+postgres-killed" "Redis at maxmemory and PostgreSQL killed for 5 s"
        Servers [RedisFull, PostgresKilled] 5;
    "sync-slow+kill-9" "fsync takes 500 ms, and kill -9" Files [SyncSlow, ServerKilled] 0;
    "disk-full+sigterm" "no new segment, and SIGTERM meanwhile" Files [DiskFull, ServerTerminated] 0;
}
