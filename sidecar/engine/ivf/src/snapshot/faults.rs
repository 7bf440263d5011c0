//! Disks that fail, for tests: every step that changes the disk passes here, and one of them can be made
//! to fail before it begins, in its middle or at its end, alone or with all that come later.

use std::fs;
use std::io;
use std::path::Path;

#[cfg(test)]
pub(crate) use plan::{Plan, When};

/// In the program every step is simply taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    #[cfg(test)]
    plan: std::sync::Arc<parking_lot::Mutex<Plan>>,
}

impl Faults {
    /// Takes a step that changes `path`.
    pub(super) fn step<T>(&self, path: &Path, step: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
        #[cfg(test)]
        return plan::step(&self.plan, path, step);
        #[cfg(not(test))]
        step(path)
    }

    /// Removes a directory with all that is in it, or nothing if it is not there.
    pub(super) fn remove_tree(&self, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        plan::tear(&self.plan, path);
        self.step(path, |path| match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    }
}

#[cfg(test)]
mod plan {
    use std::os::unix::fs::MetadataExt;

    use parking_lot::Mutex;

    use super::*;

    /// When the failing step fails.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum When {
        /// Nothing of it happened.
        Before,
        /// Half of it happened: half of a file is there, half of a directory is gone.
        Amid,
        /// It happened, and nobody learnt of it.
        After,
    }

    /// Which step fails.
    #[derive(Clone, Copy, Debug, Default)]
    pub(crate) struct Plan {
        /// Steps taken so far.
        pub(crate) taken: usize,
        /// The number of the step that fails.
        pub(crate) fails: Option<(usize, When)>,
        /// Later steps fail, too, before they begin: the process died, or the disk is gone.
        pub(crate) for_good: bool,
    }

    impl Faults {
        pub(crate) fn set(&self, plan: Plan) {
            *self.plan.lock() = plan;
        }

        pub(crate) fn taken(&self) -> usize {
            self.plan.lock().taken
        }

        /// From now on, `steps` steps succeed and every later one fails.
        pub(crate) fn after(&self, steps: usize) {
            let fails = (steps != usize::MAX).then_some((steps, When::Before));
            self.set(Plan { taken: 0, fails, for_good: true });
        }
    }

    fn verdict(plan: Plan) -> Option<When> {
        let (fails, when) = plan.fails?;
        match plan.taken.cmp(&fails) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some(when),
            std::cmp::Ordering::Greater => plan.for_good.then_some(When::Before),
        }
    }

    pub(super) fn step<T>(
        plan: &Mutex<Plan>,
        path: &Path,
        step: impl FnOnce(&Path) -> io::Result<T>,
    ) -> io::Result<T> {
        let verdict = {
            let mut plan = plan.lock();
            let verdict = verdict(*plan);
            plan.taken += 1;
            verdict
        };
        let failed = || io::Error::new(io::ErrorKind::StorageFull, "fault injected by a test");
        match verdict {
            None => step(path),
            Some(When::Before) => Err(failed()),
            Some(When::Amid) => {
                step(path)?;
                // A second name of an old file is made whole or not at all.
                if path.is_file() && fs::metadata(path)?.nlink() == 1 {
                    let file = fs::File::options().write(true).open(path)?;
                    file.set_len(file.metadata()?.len() / 2)?;
                }
                Err(failed())
            }
            Some(When::After) => step(path).and(Err(failed())),
        }
    }

    /// If the next step fails in its middle: removes half of what is below `path`, and lets the step
    /// itself fail before it begins.
    pub(super) fn tear(plan: &Mutex<Plan>, path: &Path) {
        let mut plan = plan.lock();
        if verdict(*plan) != Some(When::Amid) {
            return;
        }
        plan.fails = Some((plan.taken, When::Before));
        let mut below = files(path);
        below.sort();
        for file in below.iter().step_by(2) {
            // Whatever cannot be removed stays, as when the process dies.
            let _ = fs::remove_file(file);
        }
    }

    fn files(path: &Path) -> Vec<std::path::PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
        }
        found
    }
}
