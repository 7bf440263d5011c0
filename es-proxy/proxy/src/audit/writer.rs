//! The queue and the thread that writes.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
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
        let (sink, file) = open(&target)?;
        let (queue, receiver) = sync_channel(QUEUE);
        let shared_with = Arc::clone(&shared);
        let run = Run { target, sink: Some(sink), file, batch: 0, complained: false, shared: shared_with };
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

/// Device and number: the name may be another file's by now.
type FileId = (u64, u64);

struct Run {
    target: AuditTarget,
    /// `None` after an error, until it can be opened again.
    sink: Option<Sink>,
    /// Which file the sink is.
    file: Option<FileId>,
    /// Lines in the sink that the system does not have yet.
    batch: u64,
    /// It was said that the log cannot be written; a disk that is full shall not be told of with every line.
    complained: bool,
    shared: Arc<Shared>,
}

impl Run {
    fn until_stopped(mut self, queue: &Receiver<Message>) {
        while let Ok(first) = queue.recv() {
            if self.shared.reopen.swap(false, Ordering::AcqRel) || self.was_taken_away() {
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
            Ok(()) => {
                self.complained &= self.batch == 0;
                self.shared.written.inc_by(std::mem::take(&mut self.batch));
            }
            Err(error) => {
                self.shared.unreported.fetch_add(lost, Ordering::Relaxed);
                self.failed(&error);
            }
        }
    }

    fn failed(&mut self, error: &io::Error) {
        self.complain(error, "the audit log cannot be written: lines are lost");
        self.shared.lost(std::mem::take(&mut self.batch));
        if let Some(sink) = self.sink.take() {
            // Dropping it would try to write again.
            drop(sink.into_parts());
        }
    }

    /// Whether the file was moved or removed by somebody who did not say so: what is written would be seen by
    /// nobody.
    fn was_taken_away(&self) -> bool {
        let (AuditTarget::File(path), Some(file)) = (&self.target, self.file) else { return false };
        match std::fs::metadata(path) {
            Ok(now) => (now.dev(), now.ino()) != file,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    fn open_again(&mut self) {
        match open(&self.target) {
            Ok((sink, file)) => (self.sink, self.file) = (Some(sink), file),
            Err(error) => self.complain(&error, "the audit log cannot be opened: lines are lost"),
        }
    }

    fn complain(&mut self, error: &io::Error, what: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::error!(log = %self.target, %error, "{what}");
        }
    }
}

fn open(target: &AuditTarget) -> io::Result<(Sink, Option<FileId>)> {
    let AuditTarget::File(path) = target else { return Ok((BufWriter::new(Box::new(io::stdout())), None)) };
    let mut file: File = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
    let found = file.metadata()?;
    if found.is_file() && ends_amid_a_line(path, found.len()) {
        // A disk that was full, or a machine that stopped, has cut it: the next one is whole.
        file.write_all(b"\n")?;
    }
    Ok((BufWriter::new(Box::new(file)), Some((found.dev(), found.ino()))))
}

/// False where we may write the file, but not read it.
fn ends_amid_a_line(path: &Path, length: u64) -> bool {
    let mut last = [0];
    let Some(before) = length.checked_sub(1) else { return false };
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut last, before));
    read.is_ok() && last != *b"\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(path: &Path) -> Writer {
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
    fn a_file_that_was_taken_away_without_a_word_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let writer = start(&path);
        writer.write("1\n".into());
        while writer.shared.written.get() == 0 {
            std::thread::yield_now();
        }
        std::fs::remove_file(&path).unwrap();
        writer.write("2\n".into());
        writer.close();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "2\n");
        assert_eq!((writer.shared.written.get(), writer.shared.lost.get()), (2, 0));
    }

    #[test]
    fn a_line_that_was_cut_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        std::fs::write(&path, "{\"cut").unwrap();
        let writer = start(&path);
        writer.write("{}\n".into());
        writer.close();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"cut\n{}\n");
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
    fn a_disk_that_is_full_is_told_of_once() {
        #[derive(Clone, Default)]
        struct Count(Arc<AtomicU64>);
        impl tracing::Subscriber for Count {
            fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
                *metadata.level() == tracing::Level::ERROR
            }
            fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
                tracing::span::Id::from_u64(1)
            }
            fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
            fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
            fn event(&self, _: &tracing::Event<'_>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
            fn enter(&self, _: &tracing::span::Id) {}
            fn exit(&self, _: &tracing::span::Id) {}
        }
        let target = AuditTarget::File("/dev/full".into());
        let mut run =
            Run { target, sink: None, file: None, batch: 0, complained: false, shared: Arc::default() };
        let count = Count::default();
        tracing::subscriber::with_default(count.clone(), || {
            for _ in 0..10 {
                run.open_again();
                run.write("x\n");
                run.finish_batch();
            }
        });
        assert_eq!((run.shared.lost.get(), count.0.load(Ordering::Relaxed)), (10, 1));
        run.sink = Some(BufWriter::new(Box::new(Vec::new())));
        run.write("x\n");
        run.finish_batch();
        assert!(!run.complained);
    }

    #[test]
    fn a_disk_that_is_full_loses_lines_and_says_so() {
        let writer = start(Path::new("/dev/full"));
        writer.write("x\n".into());
        writer.close();
        assert_eq!(writer.shared.lost.get(), 1);
        assert_eq!(writer.shared.unreported.load(Ordering::Relaxed), 1);
    }
}
