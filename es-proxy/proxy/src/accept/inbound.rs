//! Which of the bytes that a client sends are a head, and which a body.
//!
//! Whoever looks at heads must know to the byte where one begins: what is no more than a body must not be
//! changed or refused as a head, and a request that came in one piece with the one before it is looked at like
//! any other. hyper knows, but reads on wherever there are bytes. So it gets none of those behind a head before
//! it has read that head and said how long the body is ([`Watch::serving`]), and none of those behind a body in
//! one piece with it. A head ends here where it ends for hyper, since both know one end of a line only.

use std::rc::Rc;

use bytes::BytesMut;

use crate::accept::chunks::{self, Chunks};
use crate::accept::lines::{self, Lines};
use crate::accept::refusal::Refusal;
use crate::accept::target::{self, Line};
use crate::accept::watch::{Receiving, Watch};

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

/// What stands at the next byte.
enum Part {
    /// A head or the rest of one, or empty lines before it.
    Head(Lines),
    /// What follows a head, when hyper has read it.
    AfterHead,
    Length(u64),
    Chunks(Chunks),
    /// Nothing that could be told.
    Nothing,
}

/// What becomes of the bytes that came next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// So many of them go to hyper as they are.
    Pass(usize),
    /// So many of them are kept, or others stand in their place in [`Inbound::instead`].
    Keep(usize),
    /// None of them: nobody can tell what they are.
    End,
}

/// See the head of this file.
pub(super) struct Inbound {
    watch: Rc<Watch>,
    pub(super) refusal: Refusal,
    part: Part,
    /// The request line is still to come, or the rest of one.
    line_wanted: bool,
    /// A part of it.
    line: BytesMut,
    /// What hyper gets next.
    pub(super) instead: BytesMut,
}

impl Inbound {
    pub(super) fn new(watch: Rc<Watch>, refusal: Refusal) -> Self {
        let part = Part::Head(Lines::default());
        Self { watch, refusal, part, line_wanted: true, line: BytesMut::new(), instead: BytesMut::new() }
    }

    /// Looks at bytes that came next, of which there is at least one.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Taken {
        if let Part::AfterHead = self.part {
            match self.watch.framing() {
                // hyper reads on without having understood the head, which must not be.
                None => self.part = Part::Nothing,
                Some(Framing::Length(0)) => self.expect_head(),
                Some(Framing::Length(length)) => self.part = Part::Length(length),
                Some(Framing::Chunked) => self.part = Part::Chunks(Chunks::new()),
            }
        }
        match &mut self.part {
            Part::Head(lines) => {
                let found = lines.read(bytes);
                self.watch.receives(Receiving::Head);
                self.take_head(bytes, found)
            }
            Part::Length(left) => {
                let count = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                if *left == 0 {
                    self.expect_head();
                }
                Taken::Pass(count)
            }
            Part::Chunks(chunks) => match chunks.read(bytes) {
                chunks::Found::More => Taken::Pass(bytes.len()),
                chunks::Found::End(count) => {
                    self.expect_head();
                    Taken::Pass(count)
                }
                chunks::Found::Malformed => {
                    // hyper stops where we did.
                    self.part = Part::Nothing;
                    Taken::Pass(bytes.len())
                }
            },
            Part::AfterHead | Part::Nothing => Taken::End,
        }
    }

    /// No more bytes come: hyper says what it makes of half a line.
    pub(super) fn ended(&mut self) {
        self.release_line();
    }

    fn expect_head(&mut self) {
        self.part = Part::Head(Lines::default());
        self.line_wanted = true;
        self.refusal.begin();
        self.watch.receives(Receiving::Nothing);
    }

    fn take_head(&mut self, bytes: &[u8], found: lines::Found) -> Taken {
        let count = match found {
            lines::Found::More => bytes.len(),
            lines::Found::End(count) => {
                self.part = Part::AfterHead;
                count
            }
            lines::Found::Torn(at) => {
                self.refusal.saw(at);
                self.refusal.line_is_torn();
                self.part = Part::Nothing;
                self.release_line();
                self.instead.extend_from_slice(&bytes[..at]);
                // No parser takes NUL: hyper refuses the head here and now.
                self.instead.extend_from_slice(b"\0\r\n\r\n");
                return Taken::Keep(bytes.len());
            }
        };
        self.refusal.saw(count);
        if self.line_wanted { self.take_line(&bytes[..count]) } else { Taken::Pass(count) }
    }

    /// Bytes of a head of which the first line has not been seen whole before.
    fn take_line(&mut self, bytes: &[u8]) -> Taken {
        if self.line.is_empty() {
            match target::read(bytes) {
                Line::Empty => return Taken::Pass(bytes.len()),
                Line::Whole(None) => {
                    self.line_wanted = false;
                    return Taken::Pass(bytes.len());
                }
                Line::Whole(Some(changed)) => {
                    self.line_wanted = false;
                    self.instead = changed;
                }
                Line::Partial => self.line.extend_from_slice(bytes),
            }
        } else {
            self.line.extend_from_slice(bytes);
            if bytes.contains(&b'\n') {
                if let Line::Whole(Some(changed)) = target::read(&self.line) {
                    self.line = changed;
                }
                self.release_line();
            }
        }
        if self.line.len() > self.refusal.limits.max_line_bytes {
            self.refusal.line_is_too_long();
            self.release_line();
        }
        Taken::Keep(bytes.len())
    }

    fn release_line(&mut self) {
        self.line_wanted = false;
        self.instead.unsplit(self.line.split());
    }
}
