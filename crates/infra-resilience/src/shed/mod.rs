//! Load shedding: a limit that finds itself, and refusals that say why.

mod load;
mod memory;
mod rule;
mod sampler;
mod shedder;

pub use self::{
    load::{Cuts, Load, admit},
    memory::{MemoryGauge, Pressure},
    rule::{Aimd, Fixed, Gradient2, Rule, Step, Summary},
    sampler::{Sample, Sampler, Windows},
    shedder::{Options, Permit, Shedder, Stats},
};
