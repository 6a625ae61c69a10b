//! Why a cache did not have more of a prompt.
//!
//! The server remembers the last prompts, and compares: what they have in common is what could have been cached.

use std::collections::VecDeque;
use std::sync::Arc;

use lossy_engine::common_prefix;
use lossy_engine::prefix_cache::Scope;
use serde::Serialize;
use utoipa::ToSchema;

use super::job::Outline;

/// Prompts that are remembered.
const MOST_PROMPTS: usize = 64;
/// Fewer tokens in common say nothing: every prompt of a template begins alike.
const LEAST_COMMON: usize = 32;
/// Tokens that may be read again without anything having been missed: the rest of a page, and the pages that must be exact.
const SLACK: usize = 2 * 128;

/// Where and why a prompt could not go on from the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct CacheMiss {
    /// the first token that the cache did not have
    pub token: usize,
    /// the message that it is in, an index; absent where the prompt has no messages
    pub message: Option<usize>,
    /// who speaks there
    pub role: Option<String>,
    /// why
    pub reason: MissReason,
}

/// Why the cache did not have a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissReason {
    /// no earlier prompt began so
    FirstSeen,
    /// an earlier prompt has another message there
    MessagesChanged,
    /// an earlier prompt has another system message there
    SystemChanged,
    /// an earlier prompt has other tools there
    ToolsChanged,
    /// an earlier prompt was made with another template, or other variables for it
    TemplateChanged,
    /// it was read, and had to make room
    Evicted,
    /// it was read with another KV scheme or position map
    SettingChanged,
    /// it was on the disk, but not as it was written
    Damaged,
}

/// A prompt, and what it was read with.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// its tokens
    pub prompt: Arc<[u32]>,
    /// what it consists of
    pub outline: Arc<Outline>,
    /// the setting, an index
    pub setting: usize,
    /// whose it was
    pub scope: Scope,
}

/// The last prompts, newest last.
#[derive(Debug, Default)]
pub struct RecentPrompts(VecDeque<Remembered>);

impl RecentPrompts {
    /// Remembers a prompt in place of the oldest.
    pub fn push(&mut self, prompt: Remembered) {
        // A prompt that goes on from another says all that the other said.
        self.0.retain(|old| !(old.is_comparable(&prompt) && prompt.prompt.starts_with(&old.prompt)));
        if self.0.len() == MOST_PROMPTS {
            self.0.pop_front();
        }
        self.0.push_back(prompt);
    }

    /// Forgets what a user asked.
    pub fn forget(&mut self, scope: Option<&Scope>) {
        self.0.retain(|old| scope.is_some_and(|scope| old.scope != *scope));
    }

    /// Why only `n_cached` tokens of a prompt were cached; `None`: nothing was missing.
    pub fn explain(&self, prompt: &Remembered, n_cached: usize, is_damaged: bool) -> Option<CacheMiss> {
        let of_user = self.0.iter().filter(|old| old.scope == prompt.scope);
        let alike = of_user.map(|old| (common_prefix(&old.prompt, &prompt.prompt), old));
        // The newest among equals, one of the same setting before others.
        let best = alike.max_by_key(|(common, old)| (*common, old.setting == prompt.setting));
        let miss = |token: usize, reason| {
            let part = prompt.outline.parts.iter().rev().find(|part| part.start <= token);
            let (message, role) = (part.map(|part| part.message), part.map(|part| part.role.clone()));
            Some(CacheMiss { token, message, role, reason })
        };
        if is_damaged {
            return miss(n_cached, MissReason::Damaged);
        }
        let Some((common, old)) = best.filter(|(common, _)| *common >= LEAST_COMMON) else {
            let is_cached = n_cached > 0 && n_cached + SLACK >= prompt.prompt.len();
            return if is_cached { None } else { miss(n_cached, MissReason::FirstSeen) };
        };
        let could_be_cached = common.min(prompt.prompt.len() - 1);
        if n_cached + SLACK < could_be_cached {
            let is_other = old.setting != prompt.setting;
            return miss(n_cached, if is_other { MissReason::SettingChanged } else { MissReason::Evicted });
        }
        if common == old.prompt.len() || common == prompt.prompt.len() {
            return None;
        }
        let parts = &prompt.outline.parts;
        let is_last = parts.last().is_none_or(|part| part.start <= common);
        let first = parts.first().map_or(0, |part| part.start);
        let role = parts.iter().rev().find(|part| part.start <= common).map(|part| part.role.as_str());
        let reason = match role {
            _ if old.outline.template != prompt.outline.template => MissReason::TemplateChanged,
            // Another question to the same beginning: nobody could have asked it before.
            _ if is_last => MissReason::FirstSeen,
            None => MissReason::ToolsChanged,
            _ if common < first => MissReason::ToolsChanged,
            Some("system" | "developer") => MissReason::SystemChanged,
            _ => MissReason::MessagesChanged,
        };
        miss(common, reason)
    }
}

impl Remembered {
    fn is_comparable(&self, other: &Remembered) -> bool {
        self.scope == other.scope
            && self.setting == other.setting
            && self.outline.template == other.outline.template
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::Part;
    use super::*;

    fn prompt(tokens: &[(usize, u32)], setting: usize, template: u64) -> Remembered {
        let roles = ["system", "user", "assistant", "user"];
        let mut ids = vec![7; 10];
        let mut parts = Vec::new();
        for (message, (n, id)) in tokens.iter().enumerate() {
            parts.push(Part { start: ids.len(), message, role: roles[message].to_string() });
            ids.extend(vec![*id; *n]);
        }
        let outline = Arc::new(Outline { parts, template });
        Remembered { prompt: ids.into(), outline, setting, scope: Scope::new(&[]) }
    }

    fn explained(old: &Remembered, new: &Remembered, n_cached: usize) -> Option<(usize, MissReason)> {
        let mut recent = RecentPrompts::default();
        recent.push(old.clone());
        recent.explain(new, n_cached, false).map(|miss| (miss.token, miss.reason))
    }

    #[test]
    fn a_conversation_that_goes_on_misses_nothing() {
        let old = prompt(&[(500, 1), (500, 2)], 0, 0);
        let new = prompt(&[(500, 1), (500, 2), (100, 3), (100, 4)], 0, 0);
        assert_eq!(explained(&old, &new, 1010), None);
        assert_eq!(explained(&old, &new, 896), None);
        assert_eq!(explained(&old, &old, 1009), None);
        assert_eq!(explained(&old, &new, 0), Some((0, MissReason::Evicted)));
    }

    #[test]
    fn what_changed_is_named() {
        let old = prompt(&[(500, 1), (500, 2), (100, 3), (10, 4)], 0, 0);
        let other_system = prompt(&[(500, 9), (500, 2), (100, 3), (10, 4)], 0, 0);
        assert_eq!(explained(&old, &other_system, 0), None.or(Some((0, MissReason::FirstSeen))));
        let system = [prompt(&[(500, 1), (500, 2)], 0, 0), prompt(&[(400, 1), (600, 2)], 0, 0)];
        assert_eq!(explained(&system[0], &system[1], 384), Some((410, MissReason::FirstSeen)));
        let edited = prompt(&[(500, 1), (300, 2), (300, 3), (10, 4)], 0, 0);
        assert_eq!(explained(&old, &edited, 768), Some((810, MissReason::MessagesChanged)));
        let shorter_system = prompt(&[(300, 1), (400, 8), (100, 3), (10, 4)], 0, 0);
        assert_eq!(explained(&old, &shorter_system, 256), Some((310, MissReason::MessagesChanged)));
        let question = prompt(&[(500, 1), (10, 6)], 0, 0);
        assert_eq!(explained(&old, &question, 384), Some((510, MissReason::FirstSeen)));
        assert_eq!(
            explained(&old, &prompt(&[(500, 1), (510, 2), (9, 3)], 0, 5), 896),
            Some((1010, MissReason::TemplateChanged))
        );
    }

    #[test]
    fn a_few_tokens_that_every_prompt_begins_with_explain_nothing() {
        let (old, new) = (prompt(&[(500, 1), (500, 2)], 0, 0), prompt(&[(500, 8), (500, 9)], 0, 0));
        assert_eq!(explained(&old, &new, 10), Some((10, MissReason::FirstSeen)));
        // Its pages are there, though the prompt that they came from is forgotten.
        assert_eq!(RecentPrompts::default().explain(&new, 1009, false), None);
    }

    #[test]
    fn another_setting_has_pages_of_its_own() {
        let (old, new) = (prompt(&[(500, 1), (500, 2)], 0, 0), prompt(&[(500, 1), (500, 2)], 1, 0));
        assert_eq!(explained(&old, &new, 0), Some((0, MissReason::SettingChanged)));
    }

    #[test]
    fn nobody_learns_of_another_users_prompts() {
        let old = Remembered { scope: Scope::new(&[b"a"]), ..prompt(&[(500, 1), (500, 2)], 0, 0) };
        let new = Remembered { scope: Scope::new(&[b"b"]), ..prompt(&[(500, 1), (500, 2)], 0, 0) };
        assert_eq!(explained(&old, &new, 0), Some((0, MissReason::FirstSeen)));
    }
}
