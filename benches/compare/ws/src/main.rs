//! Connections and fan-out. A server of each kind runs in a process of its own and takes orders on its
//! input; this process holds the clients, which read frames as cheaply as can be.

mod generator;
mod server;

use std::process::ExitCode;

use measure::{Better, Workload};

use crate::generator::{NODE, connects, delivered, idle, late};

const PEERS: [&str; 4] = ["tokio-tungstenite", "fastwebsockets", "socketioxide", NODE];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [serve, kind] = words.as_slice()
        && serve == "serve"
    {
        server::run(kind);
        return ExitCode::SUCCESS;
    }
    let mut burst = Workload::figure("ws-burst", "/s", Better::Higher, || delivered("infra-ws"));
    let mut paced = Workload::figure("ws-paced", " ms", Better::Lower, || late("infra-ws"));
    let mut memory = Workload::figure("ws-idle", " KiB", Better::Lower, || idle("infra-ws beating"));
    for peer in PEERS {
        burst = burst.beside(peer, move || delivered(peer));
        paced = paced.beside(peer, move || late(peer));
        memory = memory.beside(peer, move || idle(peer));
    }
    let resume = Workload::figure("ws-resume", "/s", Better::Higher, || connects("infra-ws rooms"));
    let resume = resume.beside("tokio-tungstenite", || connects("tokio-tungstenite"));
    measure::main(vec![burst, paced.rounds(3), memory.rounds(1), resume.rounds(3)])
}
