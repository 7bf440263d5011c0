//! The queue and the thread that writes.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::SystemTime;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::AuditTarget;
use super::line::Line;

/// Lines that may wait; some 4 MB.
const QUEUE: usize = 8_192;

enum Message {
    Line(String),
    /// Look at the flags.
    Wake,
    Stop,
}

/// What both sides see.
#[derive(Default)]
struct Shared {
    reopen: AtomicBool,
    /// Lines lost that the log does not say yet.
    unreported: AtomicU64,
    written: Counter,
    lost: Counter,
}

pub(super) struct Writer {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Opens the target, so that a wrong one is an error of the start, and begins to write.
    pub(super) fn start(target: AuditTarget, registry: &mut Registry) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        registry.register("outrigger_audit_lines", "Lines of the audit log written", shared.written.clone());
        let text = "Lines of the audit log lost: the queue was full, or the file could not be written";
        registry.register("outrigger_audit_lost", text, shared.lost.clone());
        let sink = open(&target)?;
        let (queue, receiver) = sync_channel(QUEUE);
        let run = Run { target, sink: Some(sink), batch: 0, shared: Arc::clone(&shared) };
        let thread =
            std::thread::Builder::new().name("audit".into()).spawn(move || run.until_stopped(&receiver))?;
        Ok(Self { queue, shared, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a line; never waits.
    pub(super) fn write(&self, line: String) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.queue.try_send(Message::Line(line))
        {
            self.shared.lost(1);
        }
    }

    pub(super) fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        // A full queue wakes the thread as well.
        let _ = self.queue.try_send(Message::Wake);
    }

    pub(super) fn close(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        // It fails only where the thread is gone.
        let _ = self.queue.send(Message::Stop);
        if thread.join().is_err() {
            tracing::error!("the audit log's thread panicked");
        }
    }
}

impl Shared {
    fn lost(&self, lines: u64) {
        self.lost.inc_by(lines);
        self.unreported.fetch_add(lines, Ordering::Relaxed);
    }
}

type Sink = BufWriter<Box<dyn Write + Send>>;

struct Run {
    target: AuditTarget,
    /// `None` after an error, until it can be opened again.
    sink: Option<Sink>,
    /// Lines in the sink that the system does not have yet.
    batch: u64,
    shared: Arc<Shared>,
}

impl Run {
    fn until_stopped(mut self, queue: &Receiver<Message>) {
        while let Ok(first) = queue.recv() {
            if self.shared.reopen.swap(false, Ordering::AcqRel) {
                self.sink = None;
            }
            if self.sink.is_none() {
                self.open_again();
            }
            let mut stop = false;
            // What is there is written in one go.
            for message in std::iter::once(first).chain(queue.try_iter()) {
                match message {
                    Message::Line(line) => self.write(&line),
                    Message::Wake => {}
                    Message::Stop => stop = true,
                }
                if stop || self.shared.reopen.load(Ordering::Acquire) {
                    break;
                }
            }
            self.finish_batch();
            if stop {
                return;
            }
        }
    }

    fn write(&mut self, line: &str) {
        let written = self.sink.as_mut().map(|sink| sink.write_all(line.as_bytes()));
        match written {
            Some(Ok(())) => self.batch += 1,
            Some(Err(error)) => {
                self.batch += 1;
                self.failed(&error);
            }
            None => self.shared.lost(1),
        }
    }

    /// Says what was lost, and hands everything to the system.
    fn finish_batch(&mut self) {
        let lost = self.shared.unreported.swap(0, Ordering::Relaxed);
        let Some(sink) = &mut self.sink else {
            self.shared.unreported.fetch_add(lost, Ordering::Relaxed);
            return;
        };
        let mut result = Ok(());
        if lost > 0 {
            let mut line = Line::new("lost", "", SystemTime::now());
            line.number("lines", lost);
            result = sink.write_all(line.finish().as_bytes());
        }
        match result.and_then(|()| sink.flush()) {
            Ok(()) => _ = self.shared.written.inc_by(std::mem::take(&mut self.batch)),
            Err(error) => {
                self.shared.unreported.fetch_add(lost, Ordering::Relaxed);
                self.failed(&error);
            }
        }
    }

    fn failed(&mut self, error: &io::Error) {
        tracing::error!(log = %self.target, %error, "the audit log cannot be written");
        self.shared.lost(std::mem::take(&mut self.batch));
        if let Some(sink) = self.sink.take() {
            // Dropping it would try to write again.
            drop(sink.into_parts());
        }
    }

    fn open_again(&mut self) {
        match open(&self.target) {
            Ok(sink) => self.sink = Some(sink),
            Err(error) => tracing::error!(log = %self.target, %error, "the audit log cannot be opened"),
        }
    }
}

fn open(target: &AuditTarget) -> io::Result<Sink> {
    let sink: Box<dyn Write + Send> = match target {
        AuditTarget::Stdout => Box::new(io::stdout()),
        AuditTarget::File(path) => {
            let file: File = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
            Box::new(file)
        }
    };
    Ok(BufWriter::new(sink))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(path: &std::path::Path) -> Writer {
        Writer::start(AuditTarget::File(path.into()), &mut Registry::default()).unwrap()
    }

    #[test]
    fn a_file_that_was_moved_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
        let writer = start(&path);
        writer.write("1\n".into());
        std::fs::rename(&path, &moved).unwrap();
        writer.reopen();
        writer.write("2\n".into());
        writer.close();
        let both = std::fs::read_to_string(&moved).unwrap() + &std::fs::read_to_string(&path).unwrap();
        assert_eq!(both, "1\n2\n");
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("2\n"));
        assert_eq!((writer.shared.written.get(), writer.shared.lost.get()), (2, 0));
    }

    #[test]
    fn what_is_lost_is_counted_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let writer = start(&path);
        writer.shared.lost(3);
        writer.write("1\n".into());
        writer.close();
        writer.write("too late\n".into());
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[1].contains("\"event.action\":\"lost\"") && lines[1].contains("\"lines\":3"), "{text}");
        assert_eq!(writer.shared.lost.get(), 4);
    }

    #[test]
    fn a_queue_that_is_full_holds_nobody_up() {
        // Nobody reads.
        let (queue, _receiver) = sync_channel(2);
        let writer = Writer { queue, shared: Arc::default(), thread: Mutex::new(None) };
        for _ in 0..5 {
            writer.write("x\n".into());
        }
        assert_eq!(writer.shared.lost.get(), 3);
    }

    #[test]
    fn a_target_that_cannot_be_opened_is_an_error_of_the_start() {
        let target = AuditTarget::File("/nonexistent/audit.log".into());
        assert!(Writer::start(target, &mut Registry::default()).is_err());
    }

    #[test]
    fn a_disk_that_is_full_loses_lines_and_says_so() {
        let writer = start(std::path::Path::new("/dev/full"));
        writer.write("x\n".into());
        writer.close();
        assert_eq!(writer.shared.lost.get(), 1);
        assert_eq!(writer.shared.unreported.load(Ordering::Relaxed), 1);
    }
}
