//! What one burst of events led to, put into the order in which it must be done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use holm_model::{BatchId, FrameworkId, Incarnation, ToMaster, Update};

use crate::event::{AgentEffect, SessionId};
use crate::options::{MAX_PAGE_ENTRIES, PAGE_BYTES};
use crate::record::Record;

/// About how many bytes the usage of one task takes on the wire.
pub(crate) const USAGE_BYTES: usize = 40;

/// Effects in the making. Records always go before everything that may depend on them, so the effects of several
/// events share one write.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    records: Vec<Record>,
    sync: bool,
    effects: Vec<AgentEffect>,
    updates: BTreeMap<FrameworkId, Vec<Update>>,
}

impl Outbox {
    pub(crate) fn record(&mut self, record: Record) {
        self.records.push(record);
    }

    pub(crate) fn sync(&mut self) {
        self.sync = true;
    }

    pub(crate) fn push(&mut self, effect: AgentEffect) {
        self.effects.push(effect);
    }

    pub(crate) fn reconnect(&mut self, session: SessionId, message: impl Into<Arc<str>>) {
        self.push(AgentEffect::Reconnect { session, message: message.into() });
    }

    pub(crate) fn update(&mut self, framework: FrameworkId, update: Update) {
        self.updates.entry(framework).or_default().push(update);
    }

    /// Forgets what was to be sent on a stream that is gone; the status log still has it.
    pub(crate) fn drop_updates(&mut self) {
        self.updates.clear();
    }

    /// The same for one framework, or one launch of it, that is forgotten.
    pub(crate) fn drop_updates_of(&mut self, framework: FrameworkId, batch: Option<&BatchId>) {
        if let Some(updates) = self.updates.get_mut(&framework) {
            updates.retain(|update| batch.is_some_and(|batch| *batch != update.batch));
        }
    }

    /// Everything in order, and an empty outbox.
    pub(crate) fn take(&mut self, session: Option<SessionId>, incarnation: Incarnation) -> VecDeque<AgentEffect> {
        let mut out = VecDeque::with_capacity(self.effects.len() + 2);
        if !self.records.is_empty() {
            out.push_back(AgentEffect::Checkpoint(std::mem::take(&mut self.records)));
        }
        if std::mem::take(&mut self.sync) {
            out.push_back(AgentEffect::Sync);
        }
        out.extend(self.effects.drain(..));
        for (framework, updates) in std::mem::take(&mut self.updates) {
            let Some(session) = session else { continue };
            for updates in pages(updates, update_bytes) {
                let message = ToMaster::Updates { framework, incarnation, updates };
                out.push_back(AgentEffect::ToMaster { session, message });
            }
        }
        out
    }
}

/// Cuts a list into messages of at most [`MAX_PAGE_ENTRIES`] entries and about [`PAGE_BYTES`].
pub(crate) fn pages<T>(items: impl IntoIterator<Item = T>, bytes_of: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut pages: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for item in items {
        let bytes = bytes_of(&item);
        match pages.last_mut() {
            Some(page) if page.len() < MAX_PAGE_ENTRIES && bytes <= room => {
                page.push(item);
                room -= bytes;
            }
            _ => {
                pages.push(vec![item]);
                room = PAGE_BYTES.saturating_sub(bytes);
            }
        }
    }
    pages
}

/// About how many bytes an update takes on the wire.
pub(crate) fn update_bytes(update: &Update) -> usize {
    96 + update.batch.as_str().len() + update.status.message.len() + USAGE_BYTES * update.usages.len()
}
