//! Which type each tensor of a file gets: the recipes that people know by name, and changes to them.
//!
//! A name such as `q4_k_m` is a default type and a few rules: more bits for the values and down-projections of some layers, 8
//! or 6 bits for what makes logits. Rows whose length a type's blocks do not divide get another type, the *fallback*. Both are as
//! in llama.cpp's `llama_model_quantize` of September 2026 (llama-cpp-python 0.3.36), whose choices for models of several
//! shapes are in testdata/recipes: the rules are facts of that program, the code is ours.

mod categories;
mod rules;
#[cfg(test)]
mod tests;

pub(crate) use categories::is_quantized;
use lossy_formats::gguf::{IfPresent, Metadata, MetadataError};
use lossy_quant::DType;
use regex::Regex;
use rules::Chooser;

/// A recipe: its name, its number in `general.file_type`, and the type of most tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    name: &'static str,
    file_type: u32,
    default: DType,
    size: Size,
}

/// The last letter of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Plain,
    Small,
    Medium,
    Large,
}

const fn recipe(name: &'static str, file_type: u32, default: DType, size: Size) -> Recipe {
    Recipe { name, file_type, default, size }
}

/// All of them, by size.
pub const RECIPES: [Recipe; 18] = [
    recipe("q2_k", 10, DType::Q2K, Size::Medium),
    recipe("q3_k_s", 11, DType::Q3K, Size::Small),
    recipe("q3_k_m", 12, DType::Q3K, Size::Medium),
    recipe("q3_k_l", 13, DType::Q3K, Size::Large),
    recipe("iq4_xs", 30, DType::IQ4XS, Size::Plain),
    recipe("iq4_nl", 25, DType::IQ4NL, Size::Plain),
    recipe("q4_0", 2, DType::Q4_0, Size::Plain),
    recipe("q4_1", 3, DType::Q4_1, Size::Plain),
    recipe("q4_k_s", 14, DType::Q4K, Size::Small),
    recipe("q4_k_m", 15, DType::Q4K, Size::Medium),
    recipe("q5_0", 8, DType::Q5_0, Size::Plain),
    recipe("q5_1", 9, DType::Q5_1, Size::Plain),
    recipe("q5_k_s", 16, DType::Q5K, Size::Small),
    recipe("q5_k_m", 17, DType::Q5K, Size::Medium),
    recipe("q6_k", 18, DType::Q6K, Size::Plain),
    recipe("q8_0", 7, DType::Q8_0, Size::Plain),
    recipe("f16", 1, DType::F16, Size::Plain),
    recipe("bf16", 32, DType::BF16, Size::Plain),
];

/// Why types cannot be chosen.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// There is no such recipe or type.
    #[error("there is no {what} `{name}`: do you mean {nearest}? There are {known}")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// Its name.
        name: String,
        /// The name that is most like it.
        nearest: String,
        /// All names.
        known: String,
    },
    /// A pattern is no regular expression.
    #[error("the pattern `{pattern}` is no regular expression: {error}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        error: Box<regex::Error>,
    },
    /// A change lacks a part.
    #[error("`{text}` is not PATTERN=TYPE, such as ffn_down=q6_k")]
    Change {
        /// What was given.
        text: String,
    },
    /// A pattern matches no tensor that is quantized.
    #[error("the pattern `{pattern}` matches no tensor that is quantized; there are such as {examples}")]
    NoMatch {
        /// The pattern.
        pattern: String,
        /// Some names.
        examples: String,
    },
    /// Metadata lack what the rules ask for.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl Recipe {
    /// The recipe of this name, in letters of any size.
    ///
    /// # Errors
    /// There is none; the error has the nearest.
    pub fn named(name: &str) -> Result<Recipe, RecipeError> {
        // What llama.cpp's older names mean today.
        let sought = match name.to_ascii_lowercase().as_str() {
            "q3_k" => "q3_k_m".to_owned(),
            "q4_k" => "q4_k_m".to_owned(),
            "q5_k" => "q5_k_m".to_owned(),
            other => other.to_owned(),
        };
        let found = RECIPES.iter().find(|recipe| recipe.name == sought);
        found
            .copied()
            .ok_or_else(|| unknown("recipe", name, RECIPES.iter().map(|recipe| recipe.name.to_owned())))
    }

    /// The recipe of a file most of whose weights have this type.
    pub fn mostly(dtype: DType) -> Option<Recipe> {
        let of_type = || RECIPES.into_iter().filter(|recipe| recipe.default == dtype);
        of_type().find(|recipe| recipe.size == Size::Medium).or_else(|| of_type().next())
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Its number in `general.file_type`.
    pub fn file_type(self) -> u32 {
        self.file_type
    }

    fn is(self, default: DType, size: Size) -> bool {
        self.default == default && self.size == size
    }
}

/// The type of this name, in letters of any size.
///
/// # Errors
/// There is none that can be computed; the error has the nearest.
pub fn dtype_named(name: &str) -> Result<DType, RecipeError> {
    let known = || DType::ALL.iter().copied().filter(|dtype| dtype.is_computable());
    let found = known().find(|dtype| dtype.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| unknown("type", name, known().map(|dtype| dtype.name().to_ascii_lowercase())))
}

fn unknown(what: &'static str, name: &str, known: impl Iterator<Item = String>) -> RecipeError {
    let known: Vec<String> = known.collect();
    let sought = name.to_ascii_lowercase();
    let bare = |name: &str| name.replace('_', "");
    let unlike = |known: &String| (distance(&bare(&sought), &bare(known)), distance(&sought, known));
    let nearest = known.iter().min_by_key(|known| unlike(known)).cloned().unwrap_or_default();
    RecipeError::Unknown { what, name: name.to_owned(), nearest, known: known.join(", ") }
}

/// How many letters have to be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let fewest = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], fewest);
        }
    }
    row[b.len()]
}

/// What the rules ask about a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// `general.architecture`
    pub architecture: String,
    /// layers
    pub n_layers: usize,
    /// query heads on one KV head
    pub heads_per_kv: usize,
    /// whether a KV head has several query heads in every layer
    pub is_grouped: bool,
    /// experts of a layer; 0 for a dense model
    pub n_experts: usize,
}

impl Shape {
    /// As metadata have it.
    ///
    /// # Errors
    /// A key is missing or has another type.
    pub fn of(metadata: &Metadata) -> Result<Shape, MetadataError> {
        let architecture = metadata.str("general.architecture")?.to_owned();
        let key = |name: &str| format!("{architecture}.{name}");
        // Some models have a number for each layer; llama.cpp looks at the first.
        let first = |name: &str| match metadata.usize(&key(name)) {
            Err(MetadataError::WrongType { .. }) => {
                let all = metadata.i64s(&key(name))?;
                Ok(all.first().and_then(|&n| usize::try_from(n).ok()).unwrap_or(0))
            }
            found => found,
        };
        let n_heads = first("attention.head_count")?;
        let n_kv_heads = first("attention.head_count_kv").if_present()?.unwrap_or(n_heads);
        Ok(Shape {
            n_layers: metadata.usize(&key("block_count"))?,
            heads_per_kv: n_heads.checked_div(n_kv_heads).unwrap_or(0),
            is_grouped: n_heads != n_kv_heads,
            n_experts: metadata.usize(&key("expert_count")).if_present()?.unwrap_or(0),
            architecture,
        })
    }

    /// A model that llama.cpp counts as one of 70 billion parameters, whose eight query heads on a KV head make its values cheap.
    fn is_70b(&self) -> bool {
        match self.architecture.as_str() {
            "llama" => self.n_layers == 80 && self.is_grouped,
            "qwen2" | "olmo" | "deci" => self.n_layers == 80,
            "jais2" => self.n_layers == 68,
            _ => false,
        }
    }
}

/// A tensor of the source.
#[derive(Debug, Clone, Copy)]
pub struct SourceTensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is now.
    pub dtype: DType,
    /// Row-major.
    pub shape: &'a [usize],
}

/// Changes to a recipe.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// The default type for all tensors that are quantized.
    pub is_pure: bool,
    /// The type of the token embedding.
    pub token_embedding: Option<DType>,
    /// The type of the output matrix.
    pub output: Option<DType>,
    /// Types by name, the first that matches.
    pub by_name: Vec<NamedType>,
    /// Whether there are importances: recipes spend less then.
    pub has_imatrix: bool,
}

/// A type for the tensors whose names match a pattern somewhere.
#[derive(Debug, Clone)]
pub struct NamedType {
    pattern: Regex,
    dtype: DType,
}

impl NamedType {
    /// From `PATTERN=TYPE`.
    ///
    /// # Errors
    /// The pattern is no regular expression, or there is no such type.
    pub fn parse(text: &str) -> Result<NamedType, RecipeError> {
        let (pattern, name) = match text.rsplit_once('=') {
            Some((pattern, name)) if !pattern.is_empty() && !name.is_empty() => (pattern, name),
            _ => return Err(RecipeError::Change { text: text.to_owned() }),
        };
        let dtype = dtype_named(name)?;
        let pattern = Regex::new(pattern)
            .map_err(|error| RecipeError::Pattern { pattern: pattern.to_owned(), error: Box::new(error) })?;
        Ok(NamedType { pattern, dtype })
    }
}

/// What a tensor becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its type in the new file.
    pub dtype: DType,
    /// What it should have been, if its rows are not whole blocks of that.
    pub fallback_from: Option<DType>,
    /// Whether it is a matrix that recipes speak of; all others stay as they are.
    pub is_quantized: bool,
}

/// The choices for all tensors, in their order.
///
/// # Errors
/// A pattern matches nothing.
pub fn choose(
    recipe: Recipe,
    shape: &Shape,
    tensors: &[SourceTensor<'_>],
    changes: &Changes,
) -> Result<Vec<Choice>, RecipeError> {
    for NamedType { pattern, .. } in &changes.by_name {
        let quantized = || tensors.iter().filter(|tensor| is_quantized(tensor.name, tensor.shape));
        if !quantized().any(|tensor| pattern.is_match(tensor.name)) {
            let examples: Vec<&str> = quantized().map(|tensor| tensor.name).take(4).collect();
            let examples = examples.join(", ");
            return Err(RecipeError::NoMatch { pattern: pattern.as_str().to_owned(), examples });
        }
    }
    let mut chooser = Chooser::new(recipe, shape, tensors, changes);
    // Rules count the tensors of a kind in the order of layers, whatever the order of the file.
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| (layer(tensors[i].name), tensors[i].name));
    let mut choices = vec![None; tensors.len()];
    for i in order {
        choices[i] = Some(chooser.choose(&tensors[i]));
    }
    Ok(choices.into_iter().flatten().collect())
}

/// The number in `blk.7.`; −1 for tensors of no layer, which come first.
pub(crate) fn layer(name: &str) -> i64 {
    let number = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    number.and_then(|(number, _)| number.parse().ok()).unwrap_or(-1)
}
