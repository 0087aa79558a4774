//! The game-server binary: reads its options and serves, or does another job.

use std::{
    error::Error,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory, error::ErrorKind};
use game_server::{
    archive,
    backup::backup,
    config::{Cli, Job, Settings},
    declarations, exporter, forget, generate,
    observe::{Instruments, sink},
    restore::restore,
    server::Server,
    simulate::{export, simulate},
    verify::verify,
};
use infra_core::{Clock as _, SystemClock};
use mimalloc::MiMalloc;

/// Rooms, histories and pages of the log come and go in all sizes for as long as the server runs, and
/// glibc's free lists get the longer for it: a fifth of the processor after a minute under full load.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let (cli, origins) = Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let done = match cli.job {
        Some(Job::Simulate { games, seed, events }) => run_simulation(games, seed, events),
        Some(Job::Backup { data, to }) => run_backup(&data, &to),
        Some(Job::Restore { from, data }) => run_restore(&from, &data),
        Some(Job::Generate { folder }) => run_generation(&folder),
        Some(Job::Verify { folder }) => run_verify(folder),
        Some(Job::Archive(arguments)) => run_archive(&arguments),
        Some(Job::Forget(arguments)) => run_forget(&arguments),
        None => match Settings::resolve_from(cli.options, origins) {
            Ok(settings) => serve(settings),
            Err(error) => Cli::command().error(ErrorKind::InvalidValue, error).exit(),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

fn run_simulation(games: u32, seed: u64, events: Option<PathBuf>) -> Result<(), Box<dyn Error>> {
    let games = u64::from(games);
    let report = match events {
        None => simulate(games, seed)?,
        Some(file) => export(games, seed, &mut BufWriter::new(File::create_new(file)?))?,
    };
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

fn run_backup(data: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let report = runtime.block_on(backup(data, to))?;
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

fn run_restore(from: &Path, data: &Path) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let report = runtime.block_on(restore(from, data))?;
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

fn run_generation(folder: &Path) -> Result<(), Box<dyn Error>> {
    let written = generate::write(&generate::files(&declarations())?, folder)?;
    writeln!(std::io::stdout(), "{written} files below {}", folder.display())?;
    Ok(())
}

fn run_verify(folder: PathBuf) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let verdict = runtime.block_on(verify(folder))?;
    writeln!(std::io::stdout(), "{verdict}")?;
    if verdict.is_sound() { Ok(()) } else { Err("the log is damaged".into()) }
}

fn run_archive(arguments: &archive::Arguments) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let now = SystemClock::shared().wall();
    Ok(runtime.block_on(archive::run(arguments, now, &mut std::io::stdout()))?)
}

fn run_forget(arguments: &forget::Arguments) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(forget::run(arguments, SystemClock::shared()))?;
    write!(std::io::stdout(), "{done}")?;
    Ok(())
}

fn serve(settings: Settings) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let (clock, sink) = (SystemClock::shared(), sink(&settings)?);
        let instruments = Instruments::install(&settings, clock, exporter(), sink)?;
        let server = Server::start(settings, instruments).await?;
        let (game, admin) = (server.addr(), server.admin_addr());
        let told = format!("game:      http://{game}/\ndashboard: http://{admin}/dashboard\n");
        if let Err(error) = std::io::stdout().write_all(told.as_bytes()) {
            tracing::warn!(error = &error as &dyn Error, %game, %admin, "addresses not printed");
        }
        let is_lost = tokio::select! {
            asked = asked_to_stop() => asked.map(|()| false)?,
            () = server.lost() => true,
        };
        let hold = server.hold();
        server.stop().await;
        if is_lost { Err("another process serves the same database".into()) } else { Ok(hold) }
    });
    // Who waits for the data folder comes once nothing of this process is left in it.
    drop(runtime);
    served.map(drop)
}

/// Waits for SIGTERM or Ctrl-C.
async fn asked_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}

/// Prints an error with its causes.
fn complain(error: &dyn Error) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    // Where not even standard error can be written to, nobody can be told.
    let _told = writeln!(std::io::stderr(), "error: {text}").is_ok();
}
