//! Classes of agents: those with equal attributes, so that a constraint is evaluated once for all of them.

use std::collections::BTreeMap;

use holm_model::Attributes;

/// What agents of a class have in common.
#[derive(Clone, Debug)]
struct Class {
    attributes: Attributes,
    scarce: bool,
    agents: usize,
}

/// The classes in use, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Classes {
    numbers: BTreeMap<(Attributes, bool), u32>,
    classes: Vec<Class>,
    vacant: Vec<u32>,
    /// Numbers that were given up and may come to mean something else.
    retired: Vec<u32>,
}

impl Classes {
    /// The number of no class.
    pub(crate) const NONE: u32 = u32::MAX;

    /// The class of an agent with these attributes, for one more agent.
    pub(crate) fn acquire(&mut self, attributes: &Attributes, scarce: bool) -> u32 {
        let key = (attributes.clone(), scarce);
        if let Some(number) = self.numbers.get(&key) {
            self.classes[*number as usize].agents += 1;
            return *number;
        }
        let class = Class { attributes: attributes.clone(), scarce, agents: 1 };
        let number = match self.vacant.pop() {
            Some(number) => {
                self.classes[number as usize] = class;
                number
            }
            None => {
                self.classes.push(class);
                u32::try_from(self.classes.len() - 1).unwrap_or(Classes::NONE)
            }
        };
        self.numbers.insert(key, number);
        number
    }

    /// One agent less; the last one takes the class with it.
    pub(crate) fn release(&mut self, number: u32) {
        let Some(class) = self.classes.get_mut(number as usize) else { return };
        class.agents -= 1;
        if class.agents == 0 {
            let key = (std::mem::take(&mut class.attributes), class.scarce);
            self.numbers.remove(&key);
            self.vacant.push(number);
            self.retired.push(number);
        }
    }

    /// The numbers given up since the last call: what was remembered of them is to be forgotten.
    pub(crate) fn take_retired(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.retired)
    }

    /// The attributes of a class.
    pub(crate) fn attributes(&self, number: u32) -> &Attributes {
        &self.classes[number as usize].attributes
    }

    /// Whether agents of a class have something scarce.
    pub(crate) fn is_scarce(&self, number: u32) -> bool {
        self.classes.get(number as usize).is_some_and(|class| class.scarce)
    }
}
