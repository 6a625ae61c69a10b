//! Chat templates by name, for models that come without one. Each is written from the description of its format.

use super::ChatTemplate;

/// Names and templates.
pub const BUILT_IN_TEMPLATES: [(&str, &str); 8] = [
    ("chatml", CHATML),
    ("gemma", GEMMA),
    ("llama2", LLAMA2),
    ("llama3", LLAMA3),
    ("mistral", MISTRAL),
    ("phi3", PHI3),
    ("vicuna", VICUNA),
    ("zephyr", ZEPHYR),
];

/// `<|im_start|>role\ntext<|im_end|>\n`
const CHATML: &str = "\
{%- for message in messages -%}
    {{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
";

/// `<start_of_turn>role\ntext<end_of_turn>\n`; the assistant is the `model`, and a system message begins the first turn.
const GEMMA: &str = "\
{{- bos_token -}}
{%- set system = '' -%}
{%- if messages and messages[0].role == 'system' -%}
    {%- set system = messages[0].content + '\\n\\n' -%}
    {%- set messages = messages[1:] -%}
{%- endif -%}
{%- for message in messages -%}
    {{ '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
    {{- system if loop.first }}{{ message.content | trim + '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif -%}
";

/// `<s>[INST] <<SYS>>\nsystem\n<</SYS>>\n\nuser [/INST] assistant </s>`
const LLAMA2: &str = "\
{%- set system = '' -%}
{%- if messages and messages[0].role == 'system' -%}
    {%- set system = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' -%}
    {%- set messages = messages[1:] -%}
{%- endif -%}
{%- for message in messages -%}
    {%- if message.role == 'user' -%}
        {{ bos_token + '[INST] ' + (system if loop.first else '') + message.content | trim + ' [/INST]' }}
    {%- else -%}
        {{ ' ' + message.content | trim + ' ' + eos_token }}
    {%- endif -%}
{%- endfor -%}
";

/// `<|start_header_id|>role<|end_header_id|>\n\ntext<|eot_id|>`
const LLAMA3: &str = "\
{{- bos_token -}}
{%- for message in messages -%}
    {{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif -%}
";

/// `<s>[INST] user [/INST] assistant</s>`; a system message begins the first turn.
const MISTRAL: &str = "\
{{- bos_token -}}
{%- set system = '' -%}
{%- if messages and messages[0].role == 'system' -%}
    {%- set system = messages[0].content + '\\n\\n' -%}
    {%- set messages = messages[1:] -%}
{%- endif -%}
{%- for message in messages -%}
    {%- if message.role == 'user' -%}
        {{ '[INST] ' + (system if loop.first else '') + message.content + ' [/INST]' }}
    {%- else -%}
        {{ ' ' + message.content + eos_token }}
    {%- endif -%}
{%- endfor -%}
";

/// `<|role|>\ntext<|end|>\n`
const PHI3: &str = "\
{%- for message in messages -%}
    {{ '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif -%}
";

/// `system USER: user ASSISTANT: assistant</s>`
const VICUNA: &str = "\
{%- for message in messages -%}
    {%- if message.role == 'system' -%}
        {{ message.content + '\\n\\n' }}
    {%- elif message.role == 'user' -%}
        {{ 'USER: ' + message.content + '\\n' }}
    {%- else -%}
        {{ 'ASSISTANT: ' + message.content + eos_token + '\\n' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif -%}
";

/// `<|role|>\ntext</s>\n`
const ZEPHYR: &str = "\
{%- for message in messages -%}
    {{ '<|' + message.role + '|>\\n' + message.content + eos_token + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif -%}
";

impl ChatTemplate {
    /// The template of a name in [`BUILT_IN_TEMPLATES`].
    pub fn built_in(name: &str) -> Option<&'static str> {
        BUILT_IN_TEMPLATES.iter().find(|(found, _)| *found == name).map(|(_, template)| *template)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Message, RenderOptions};

    fn rendered(name: &str) -> String {
        let tokens =
            [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(n, t)| (n.to_string(), t.to_string()));
        let template = ChatTemplate::new(ChatTemplate::built_in(name).unwrap(), &tokens).unwrap();
        let messages =
            [Message::system("S"), Message::user("U"), Message::assistant("A"), Message::user("V")];
        let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
        template.render(&messages, &options).unwrap()
    }

    #[test]
    fn every_built_in_template_writes_its_format() {
        let formats = [
            (
                "chatml",
                "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n\
                 <|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n",
            ),
            (
                "gemma",
                "<s><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n\
                 <start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n",
            ),
            ("llama2", "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A </s><s>[INST] V [/INST]"),
            (
                "llama3",
                "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n\
                 U<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>user\
                 <|end_header_id|>\n\nV<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
            ),
            ("mistral", "<s>[INST] S\n\nU [/INST] A</s>[INST] V [/INST]"),
            (
                "phi3",
                "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\nA<|end|>\n<|user|>\nV<|end|>\n<|assistant|>\n",
            ),
            ("vicuna", "S\n\nUSER: U\nASSISTANT: A</s>\nUSER: V\nASSISTANT:"),
            (
                "zephyr",
                "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\nA</s>\n<|user|>\nV</s>\n<|assistant|>\n",
            ),
        ];
        assert_eq!(formats.len(), BUILT_IN_TEMPLATES.len());
        for (name, format) in formats {
            assert_eq!(rendered(name), format, "{name}");
        }
    }
}
