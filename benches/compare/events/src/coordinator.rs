//! A group-commit coordinator as ours is: one thread, one channel, everything that waits shares one
//! commit. It gives engines that sync each commit for itself a fair chance, and it is the bare loop.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    sync::mpsc::{Receiver, Sender, channel},
};

use tokio::sync::oneshot;

use crate::appenders::{BODY, Load, folder, in_tasks};

/// One append: of which stream, and its number there.
pub type Entry = (u64, u64, [u8; BODY]);

type Job = (Entry, oneshot::Sender<()>);

fn serve(jobs: &Receiver<Job>, mut commit: impl FnMut(&[Entry])) {
    while let Ok(first) = jobs.recv() {
        let (mut group, mut waiting) = (vec![first.0], vec![first.1]);
        while let Ok((entry, answer)) = jobs.try_recv() {
            group.push(entry);
            waiting.push(answer);
        }
        commit(&group);
        for answer in waiting {
            answer.send(()).unwrap();
        }
    }
}

/// Appends through a coordinator whose commits are done by `commit`.
pub fn grouped(load: Load, commit: impl FnMut(&[Entry]) + Send + 'static) -> f64 {
    let (sender, jobs): (Sender<Job>, _) = channel();
    let thread = std::thread::spawn(move || serve(&jobs, commit));
    let rate = measure::run(in_tasks(load, |appender| {
        let sender = sender.clone();
        async move {
            for number in 0..load.each {
                let (answer, answered) = oneshot::channel();
                sender.send(((appender, number, [7; BODY]), answer)).unwrap();
                answered.await.unwrap();
            }
        }
    }));
    drop(sender);
    thread.join().unwrap();
    rate
}

/// The bare loop: the same tasks and channel, a preallocated file, one fdatasync for a group, no
/// index, no checksum, nothing to read back.
pub fn bare(load: Load) -> f64 {
    let folder = folder();
    let file = File::create(folder.path().join("log")).unwrap();
    file.write_all_at(&vec![0; 16 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let mut at = 0;
    grouped(load, move |group| {
        let bytes: Vec<u8> = group.iter().flat_map(|(_, _, body)| *body).collect();
        file.write_all_at(&bytes, at).unwrap();
        file.sync_data().unwrap();
        at += bytes.len() as u64;
    })
}
