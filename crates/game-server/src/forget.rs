//! `game-server forget`: a player is removed from the data of a server that does not run.

use std::{fmt, path::PathBuf, sync::Arc};

use clap::Args;
use infra_core::{Clock, Error, ErrorKind, Result};
use uuid::Uuid;

use crate::{
    config::{Backend, Options, Settings},
    domain::{Name, PlayerId},
    server::{self, Backends, Forgotten, Sighting},
};

const FORGET: &str = "forget player";

/// Who is to be forgotten, and where.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Arguments {
    /// The player's id.
    #[arg(required_unless_present = "find")]
    pub player: Option<Uuid>,
    /// Forgets nobody: prints the ids of players that are or were called so, with room, time and name.
    #[arg(long, value_name = "NAME", conflicts_with = "player")]
    pub find: Option<Name>,
    /// The data folder.
    #[arg(long, env = "GAME_SERVER_DATA", value_name = "FOLDER", default_value = "./data")]
    pub data: PathBuf,
    /// The events, if they are not in the data folder.
    #[arg(long, env = "GAME_SERVER_EVENTS", value_name = "URL")]
    pub events: Option<String>,
    /// The documents, if they are not in the data folder.
    #[arg(long, env = "GAME_SERVER_DOCUMENTS", value_name = "URL")]
    pub documents: Option<String>,
    /// The archive, if it is not in the data folder.
    #[arg(long, env = "GAME_SERVER_ARCHIVE", value_name = "URL")]
    pub archive: Option<String>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// A player was forgotten.
    Forgotten(Forgotten),
    /// Players were looked for.
    Found(Vec<Sighting>),
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forgotten(forgotten) => writeln!(f, "{forgotten}"),
            Self::Found(found) => found.iter().try_for_each(|sighting| writeln!(f, "{sighting}")),
        }
    }
}

/// Forgets a player and tells what was removed, or finds players by a name.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if there is no such data, [`ErrorKind::Invalid`] for a URL that names none, and
/// what the stores fail with, as where a server runs on them: ask that one then. What was done so far
/// stays done, and doing it again finishes it.
///
/// # Cancel safety
///
/// Dropping the future leaves it done in part; do it again.
pub async fn run(arguments: &Arguments, clock: Arc<dyn Clock>) -> Result<Done> {
    let Arguments { player, find, data, events, documents, archive } = arguments.clone();
    let options = Options { data: Some(data), events, documents, archive, ..Options::default() };
    let settings =
        Settings::resolve(options).map_err(|why| Error::invalid(FORGET, why.to_string()))?;
    for place in [&settings.events, &settings.documents, &settings.archive] {
        // A typing error makes no folders.
        if let Backend::Files(folder) = place
            && !folder.is_dir()
        {
            let detail = format!("there is no folder {}", folder.display());
            return Err(Error::new(ErrorKind::NotFound, FORGET).detail(detail));
        }
    }
    let backends = Backends::open(&settings, &clock).await?;
    let done = match (player, find) {
        (Some(player), _) => {
            let player = PlayerId::from_uuid(player);
            server::forget(&backends, &clock, player).await.map(Done::Forgotten)
        }
        (None, Some(name)) => server::sightings(&backends, &clock, &name).await.map(Done::Found),
        (None, None) => Err(Error::invalid(FORGET, "whom?")),
    };
    backends.close().await;
    done
}
