//! `--task`: names of tasks.

use lossy_eval::tasks::{self, Task};

/// Tasks that one word of the command line names.
#[derive(Clone)]
pub struct Tasks(pub Vec<&'static Task>);

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|task| task.name)).finish()
    }
}

/// Reads names between commas, or beginnings of names.
pub fn task_list(text: &str) -> Result<Tasks, String> {
    let mut found = Vec::new();
    for name in text.split(',') {
        let named = tasks::find(name.trim());
        if named.is_empty() {
            let known: Vec<&str> = tasks::TASKS.iter().map(|task| task.name).collect();
            return Err(format!("no task is called `{name}`; there are {}", known.join(", ")));
        }
        found.extend(named);
    }
    Ok(Tasks(found))
}
