//! What Elasticsearch said of callers, for a few seconds. Concurrent requests with the same credentials ask
//! once; the number of callers is bounded, and those who come seldom go first.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::HeaderMap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use quick_cache::sync::Cache;

use crate::door::credentials::{Print, Printer};
use crate::door::identity::{Identity, Sight};

/// How long it is not asked again when Elasticsearch gave no answer.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How soon a question is asked again although its answer still holds.
const PAUSE_BETWEEN_RENEWALS: Duration = Duration::from_millis(20);

/// See the head of this file.
pub(crate) struct Callers {
    printer: Printer,
    ttl: Duration,
    known: Cache<Print, Arc<Known>>,
    /// Held by whoever asks; callers share them, which only means that a few wait for the answer of another.
    turns: Box<[tokio::sync::Mutex<()>]>,
    metrics: Metrics,
}

/// So many questions are under way at once, at most.
const TURNS: usize = 4096;

/// What is known of one caller.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) identity: Slot<Identity>,
    pub(crate) sight: Slot<Sight>,
}

/// One answer.
pub(crate) struct Slot<T> {
    held: ArcSwapOption<Held<T>>,
}

struct Held<T> {
    /// When the question was asked: the answer is at least as new.
    asked: Moment,
    until: Moment,
    answer: T,
}

/// Nanoseconds since the first question: half of what an [`Instant`] takes, of which there are two for each of a
/// hundred thousand callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(u64);

impl Moment {
    fn now() -> Self {
        static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
        Self(u64::try_from(FIRST.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }

    fn before(self, time: Duration) -> Option<Self> {
        self.0.checked_sub(u64::try_from(time.as_nanos()).ok()?).map(Self)
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { held: ArcSwapOption::empty() }
    }
}

impl<T: Clone> Slot<T> {
    fn fresh(&self) -> Option<T> {
        let held = self.held.load();
        let held = held.as_ref()?;
        (Moment::now() < held.until).then(|| held.answer.clone())
    }

    /// The next one who wants to know asks.
    pub(crate) fn forget(&self) {
        self.held.store(None);
    }

    fn asked_since(&self, since: Moment) -> Option<T> {
        let held = self.held.load();
        held.as_ref().filter(|held| held.asked >= since).map(|held| held.answer.clone())
    }
}

/// What is asked.
#[derive(Clone, Copy)]
pub(crate) enum Question {
    Identity,
    Rights,
}

/// What was answered.
pub(crate) struct Answer<T> {
    answer: T,
    /// The word for metrics.
    outcome: &'static str,
    is_failure: bool,
}

impl<T> Answer<T> {
    pub(crate) fn of(answer: T, outcome: &'static str) -> Self {
        Self { answer, outcome, is_failure: false }
    }

    /// Elasticsearch gave none.
    pub(crate) fn failed(answer: T) -> Self {
        Self { answer, outcome: "failed", is_failure: true }
    }
}

impl Callers {
    /// Remembers up to `most` callers, each answer for `ttl`.
    pub(crate) fn new(most: usize, ttl: Duration, metrics: Metrics) -> Self {
        let turns = (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect();
        Self { printer: Printer::new(), ttl, known: Cache::new(most), turns, metrics }
    }

    /// The caller whom these headers name.
    pub(crate) fn known(&self, headers: &HeaderMap) -> Arc<Known> {
        let print = self.printer.print(headers);
        if let Some(known) = self.known.get(&print) {
            return known;
        }
        let made = self.known.get_or_insert_with(&print, || Ok::<_, Infallible>(Arc::new(Known::default())));
        self.metrics.known.set(i64::try_from(self.known.len()).unwrap_or(i64::MAX));
        match made {
            Ok(known) => known,
            Err(never) => match never {},
        }
    }

    /// What the slot holds; where that is too old, `ask` is called, by one of those who wait for it.
    pub(crate) async fn settle<T: Clone>(
        &self,
        question: Question,
        slot: &Slot<T>,
        ask: impl AsyncFnOnce() -> Answer<T>,
    ) -> T {
        if let Some(answer) = slot.fresh() {
            return answer;
        }
        let _turn = self.turns[turn_of(slot)].lock().await;
        match slot.fresh() {
            Some(answer) => answer,
            None => self.asked(question, slot, ask).await,
        }
    }

    /// The answer to a question that is asked from now on, whatever the slot holds; `None` where one was asked
    /// less than [`PAUSE_BETWEEN_RENEWALS`] ago.
    pub(crate) async fn renew<T: Clone>(
        &self,
        question: Question,
        slot: &Slot<T>,
        ask: impl AsyncFnOnce() -> Answer<T>,
    ) -> Option<T> {
        let now = Moment::now();
        let lately = now.before(PAUSE_BETWEEN_RENEWALS)?;
        if slot.asked_since(lately).is_some() {
            return None;
        }
        let _turn = self.turns[turn_of(slot)].lock().await;
        if slot.asked_since(lately).is_some() {
            return slot.asked_since(now);
        }
        Some(self.asked(question, slot, ask).await)
    }

    async fn asked<T: Clone>(
        &self,
        question: Question,
        slot: &Slot<T>,
        ask: impl AsyncFnOnce() -> Answer<T>,
    ) -> T {
        let asked = Moment::now();
        let Answer { answer, outcome, is_failure } = ask().await;
        let until = if is_failure { Moment::now().after(PAUSE_AFTER_FAILURE) } else { asked.after(self.ttl) };
        slot.held.store(Some(Arc::new(Held { asked, until, answer: answer.clone() })));
        self.metrics.asked(question, outcome);
        answer
    }
}

/// By where the slot lies, which is as good as any number and the same for all who wait for it.
fn turn_of<T>(slot: &Slot<T>) -> usize {
    (std::ptr::from_ref(slot).addr() >> 4) % TURNS
}

/// How often Elasticsearch was asked, and how many callers are remembered.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    asked: Family<AskedLabels, Counter>,
    known: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AskedLabels {
    question: &'static str,
    outcome: &'static str,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let this = Self::default();
        let text = "Questions to Elasticsearch about who a caller is and what it may read";
        registry.register("outrigger_identity_questions", text, this.asked.clone());
        let text = "Callers of whom something is remembered";
        registry.register("outrigger_identity_known", text, this.known.clone());
        this
    }

    fn asked(&self, question: Question, outcome: &'static str) {
        let question = match question {
            Question::Identity => "identity",
            Question::Rights => "rights",
        };
        self.asked.get_or_create(&AskedLabels { question, outcome }).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use http::header::AUTHORIZATION;

    use super::*;

    fn callers(most: usize, ttl: Duration) -> Callers {
        Callers::new(most, ttl, Metrics::default())
    }

    fn of(name: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, name.parse().unwrap())])
    }

    /// Settles identity with an answer that counts how often it was asked for.
    async fn settled(callers: &Callers, known: &Known, count: &Cell<u32>, answer: fn() -> Answer<Identity>) {
        let ask = async || {
            tokio::task::yield_now().await;
            count.set(count.get() + 1);
            answer()
        };
        callers.settle(Question::Identity, &known.identity, ask).await;
    }

    fn refused() -> Answer<Identity> {
        Answer::of(Identity::Refused, "refused")
    }

    #[tokio::test]
    async fn one_question_serves_all_who_wait_and_all_who_come_in_time() {
        let (callers, count) = (callers(10, Duration::from_secs(60)), Cell::new(0));
        let known = callers.known(&of("a"));
        let ask = || settled(&callers, &known, &count, refused);
        tokio::join!(ask(), ask(), ask());
        ask().await;
        assert_eq!(count.get(), 1);
        settled(&callers, &callers.known(&of("a")), &count, refused).await;
        assert_eq!(count.get(), 1, "the same credentials");
        settled(&callers, &callers.known(&of("b")), &count, refused).await;
        assert_eq!(count.get(), 2, "other credentials");
    }

    #[tokio::test]
    async fn an_answer_ends_with_its_time() {
        let (callers, count) = (callers(10, Duration::from_nanos(1)), Cell::new(0));
        let known = callers.known(&of("a"));
        settled(&callers, &known, &count, refused).await;
        settled(&callers, &known, &count, refused).await;
        assert_eq!(count.get(), 2);
        // A failure is no answer; but Elasticsearch is given a moment before it is asked again.
        settled(&callers, &known, &count, || Answer::failed(Identity::Unclear)).await;
        settled(&callers, &known, &count, refused).await;
        assert_eq!(count.get(), 3);
    }

    #[tokio::test]
    async fn an_answer_may_be_asked_for_again_before_its_end_but_not_all_the_time() {
        let (callers, count) = (callers(10, Duration::from_secs(60)), Cell::new(0));
        let known = callers.known(&of("a"));
        settled(&callers, &known, &count, refused).await;
        let renew = async || {
            let ask = async || {
                tokio::task::yield_now().await;
                count.set(count.get() + 1);
                refused()
            };
            callers.renew(Question::Identity, &known.identity, ask).await.is_some()
        };
        assert!(!renew().await, "it was asked a moment ago");
        tokio::time::sleep(PAUSE_BETWEEN_RENEWALS * 2).await;
        let all = tokio::join!(renew(), renew(), renew());
        assert_eq!((all, count.get()), ((true, false, false), 2), "asked before the others wanted to know");
        assert!(!renew().await);
    }

    #[tokio::test]
    async fn who_asked_may_go_away() {
        let callers = callers(10, Duration::from_secs(60));
        let known = callers.known(&of("a"));
        let hung =
            callers.settle(Question::Identity, &known.identity, std::future::pending::<Answer<Identity>>);
        assert!(tokio::time::timeout(Duration::from_millis(5), hung).await.is_err());
        let count = Cell::new(0);
        settled(&callers, &known, &count, refused).await;
        assert_eq!(count.get(), 1);
    }

    #[test]
    fn the_number_of_callers_is_bounded() {
        let callers = callers(100, Duration::from_secs(60));
        for n in 0..10_000 {
            callers.known(&of(&format!("Basic {n}")));
        }
        assert!(callers.known.len() <= 100);
        assert!(callers.metrics.known.get() <= 100);
    }
}
