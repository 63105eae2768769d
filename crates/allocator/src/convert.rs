//! Changes of origin: reservations and volumes made and undone.

use holm_model::{AgentId, Conversion, FrameworkId, Role};

use crate::Allocator;
use crate::error::ConvertError;
use crate::roles::Node;
use crate::stock::{AgentStock, Bundle, Slot};

impl Allocator {
    /// Turns resources of an agent into the same amounts of other origins: what `holder` holds, or what is free.
    ///
    /// # Errors
    /// See [`ConvertError`]; nothing has changed then.
    pub fn convert(
        &mut self,
        agent: AgentId,
        holder: Option<(FrameworkId, &Role)>,
        conversion: &Conversion,
    ) -> Result<(), ConvertError> {
        let slot = self.stock.find(agent).ok_or(ConvertError::UnknownAgent(agent))?;
        let Conversion { consumed, produced } = conversion;
        if consumed.total() != produced.total() {
            return Err(ConvertError::Amounts { consumed: consumed.total(), produced: produced.total() });
        }
        self.intern(produced);
        let leaf = holder.map(|(framework, role)| self.ensure_leaf(framework, role));
        let had = match leaf {
            Some(leaf) => self.stock.held(slot, leaf),
            None => self.stock.free(slot),
        };
        let total = self.stock.portions(&self.stock.total(slot));
        let there = self.stock.portions(&had).minus(consumed);
        let total = there.and_then(|_| total.minus(consumed)?.plus(produced));
        let total = match total {
            Ok(total) => total,
            Err(source) => {
                leaf.into_iter().for_each(|leaf| self.prune(leaf));
                return Err(ConvertError::NotThere { agent, source });
            }
        };
        let (taken, given) = (self.stock.split(consumed), self.stock.split(produced));
        if let Some(leaf) = leaf {
            self.move_off(slot, leaf, &taken);
        }
        let attributes = self.stock.classes.attributes(self.stock.class(slot)).clone();
        let hostname = std::sync::Arc::clone(self.stock.hostname(slot));
        self.restock(slot, &AgentStock { portions: total, attributes, hostname });
        if let Some(leaf) = leaf {
            // It was just given back, under another name.
            let charged = self.charge(slot, leaf, &given, false);
            debug_assert!(charged.is_ok());
            self.prune(leaf);
        }
        self.opened(slot);
        Ok(())
    }

    /// Takes off a leaf what it is known to hold, for a moment.
    fn move_off(&mut self, slot: Slot, leaf: Node, bundle: &Bundle) {
        let before = self.stock.idle(slot);
        if let Ok(last) = self.stock.release(slot, leaf, bundle) {
            self.roles.node_mut(leaf).agents -= u32::from(last);
            let all = self.stock.all(bundle);
            self.roles.release(leaf, &all, self.stock.soft(bundle).as_ref());
        }
        let after = self.stock.idle(slot);
        self.set_idle(&before, &after);
    }
}
