"""Prompts of chat templates, rendered by transformers.

usage: make_chat_fixtures.py MODELS_DIR OUT_FILE
  needs: transformers, jinja2, gguf
MODELS_DIR holds the files that tools/fetch_test_models.py fetches: their own templates are two of those here, the others are
written here in the shapes that well-known models have.

OUT_FILE holds "templates" by name, "special_tokens", and "cases": template, messages as they come over the wire, tools,
extra variables, and either the "prompt" or the message of the error ("refused").
"""
import itertools, json, pathlib, sys
import gguf, jinja2, transformers
from transformers.utils.chat_template_utils import render_jinja_template

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}

TEMPLATES = {
    "llama3": """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\nToday Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- if tools_in_user_message and not tools is none and messages | length != 0 %}
    {%- set first_user_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' -}}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", "parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "mistral": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS][" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
            {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST]" + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST]" + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "tool_calls" or message.tool_calls is defined %}
        {{- "[TOOL_CALLS][" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length < 5 %}
                {{- raise_exception("Tool call IDs should be longer!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- message["content"] + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS]{"content": ' + content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
""",
    "gemma": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}""",
    "thinking": """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if (loop.first and content) or (not loop.first) %}
                {{- '\\n' }}
            {%- endif %}
            {%- if tool_call.function %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {%- if tool_call.arguments is string %}
                {{- tool_call.arguments }}
            {%- else %}
                {{- tool_call.arguments | tojson }}
            {%- endif %}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    "training marks": """{% for message in messages %}
  {% if message.role == 'assistant' %}
    {% generation %}
A: {{ message.content }}{{ eos_token }}
    {% endgeneration %}
  {% elif message.role == 'user' %}
U: {%- generation -%}  {{ message.content }}  {%- endgeneration %}

  {% else %}
    {# a comment #}
    {%- continue %}
  {% endif %}
  {% if loop.index >= 4 %}{% break %}{% endif %}
{% endfor %}
""",
    "whitespace": """  {% if true %}
  a
  {% endif %}
  {%- if true -%}
   b
  {%- endif %}

 {% for m in messages %}
   {{ m.role }}: {{ m.content }}   
 {% endfor %}
{%+ if true %} c{% endif +%}
d   {# comment #}
   {# comment #}   
e
{% raw %}{{ raw }}{% endraw %}

""",
    "python": """{% macro show(x, sep=', ') %}[{{ x | join(sep) }}]{% endmacro %}
{{ show(messages | map(attribute='role')) }} {{ show([1, 2, 3], sep='-') }}
{% for m in messages %}
{{ loop.index }}/{{ loop.length }} {{ loop.first }} {{ loop.last }} {{ loop.cycle('x', 'y') }} {{ loop.revindex0 }}
{{ m.role.upper() }} {{ m.role.title() }} {{ m.role[0] }} {{ m.role[-2:] }} {{ m.role[::-1] }} {{ m.role | capitalize }} {{ m.content | length }}
{{ m.get('name', 'nobody') }} {{ m['missing'] is defined }} {{ m.missing is none }} {{ 'content' in m }} {{ m.content is string }} {{ m is mapping }}
{{ loop.previtem.role if loop.previtem is defined else 'none before' }} {{ loop.nextitem.role if loop.nextitem is defined else 'none after' }}
{{ m.content | tojson }} {{ m.content.replace('\\n', ' ') | trim }} {{ m.content.split() | length }} {{ m.content.count('e') }} {{ m.content.find('e') }}
{{ m.content.strip().lower() | replace(' ', '_') }} {{ m.content.splitlines() | first }}
{% endfor %}
{{ [3, 1, 2] | sort }} {{ [1, 2, 2] | unique | list }} {{ {'b': 1, 'a': [true, none, 1.5]} }} {{ ('x', 1) }} {{ none }} {{ true }} {{ 1.0 }} {{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ -7 % 3 }}
{{ {'b': 1, 'a': 2} | dictsort }} {{ {'b': 1, 'a': 2} | items | list }} {{ {'b': 1}.items() | list }} {{ {'b': 1, 'a': 2}.keys() | list }} {{ [1] + [2] }} {{ 'a' ~ 1 ~ none }} {{ 'ab' * 2 }}
{{ {'z': "é\\n\\t<>&'\\"\\\\", 'a': [1, 2.0, 1e-7, true, none, {}, []], '日': '😀'} | tojson }}
{{ {'z': 'é', 'a': [1, {'k': []}]} | tojson(indent=2) }} {{ {'z': 'é😀\x7f', 'a': 1} | tojson(ensure_ascii=true, sort_keys=true) }} {{ [1, {'a': 2}] | tojson(separators=(',', ':')) }}
{{ range(3) | list }} {{ range(5, 1, -2) | list }} {{ 'x' if false }} {{ 'x' if false else 'y' }} {{ undefined_name | default('d') }} {{ '' | default('d', true) }} {{ 'a,b' | string }} {{ '3' | int + 1 }} {{ '2.5' | float }} {{ 2.567 | round(1) }}
{% set x %}block {{ 1 + 1 }}{% endset %}{{ x }} {% set a, b = 1, 2 %}{{ a }}{{ b }} {{ dict(a=1) }} {{ namespace(a=1).a }} {{ 1 == 1.0 }} {{ 1 < 2 < 3 }} {{ not 1 }} {{ [] or 'empty' }} {{ 'b' in ['a', 'b'] }} {{ 'é' | upper }} {{ 'a b' | title }} {{ "%s is %d" | format('x', 3) }}
{% if messages | selectattr('role', 'equalto', 'system') | list %}has system{% endif %} {% for k, v in {'a': 1}.items() %}{{ k }}={{ v }}{% endfor %} {{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='role') | join('|') }} {{ [messages[0].role, 'x'] | last }} {{ 'abc'.startswith(('x', 'ab')) }} {{ 'a-b'.split('-', 1) }} {{ ' a '.rstrip() }}|
""",
}

TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Weather of a <place> & \"time\", it's simple", "parameters": {
    "type": "object", "properties": {"place": {"type": "string", "description": "Zürich, 東京"}, "days": {"type": "integer", "minimum": 1, "default": 1.0}},
    "required": ["place"]}}}
TOOL2 = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}, "return": {"type": "number"}}}

def call(arguments, name="get_weather"):
    return {"id": "call_12345", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}}

USER = {"role": "user", "content": "Hello <there> & 'you' \"too\"!"}
CONVERSATIONS = {
    "one": [USER],
    "system": [{"role": "system", "content": "  Be brief.\n"}, USER],
    "turns": [{"role": "user", "content": "Was ist größer: π oder 3?\n\n日本語も 😀"}, {"role": "assistant", "content": "π.\n"}, {"role": "user", "content": " thanks "},
              {"role": "assistant", "content": "<think>\nhm\n</think>\n\nWelcome"}, {"role": "user", "content": "x"}],
    "calls": [USER, {"role": "assistant", "content": None, "tool_calls": [call({"place": "Zürich's <b>", "days": 2})]},
              {"role": "tool", "name": "get_weather", "tool_call_id": "call_12345", "content": "{\"sky\": \"blue & <white>\"}"},
              {"role": "assistant", "content": "Blue."}, {"role": "user", "content": "And?"}],
    "two calls": [USER, {"role": "assistant", "content": "Let me see.", "tool_calls": [call({"place": "東京"}), call({}, "add")]},
                  {"role": "tool", "tool_call_id": "call_12345", "content": "1"}, {"role": "tool", "tool_call_id": "call_12345", "content": "2"}],
    "reasoning": [USER, {"role": "assistant", "content": "4", "reasoning_content": "\n2+2\n"}],
    "odd": [{"role": "assistant", "content": "I begin"}, {"role": "user", "content": ""}, {"role": "user", "content": "\u2028\t{{ x }} {% y %} <|im_end|>"}],
}
VARIANTS = [dict(add_generation_prompt=True), dict(add_generation_prompt=False), dict(add_generation_prompt=True, tools=[TOOL, TOOL2]),
            dict(add_generation_prompt=True, extra={"enable_thinking": False, "date_string": "1 Jan 2026"})]

def as_python(message):
    message = json.loads(json.dumps(message))
    for call in message.get("tool_calls", []):
        call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return message

def own_template(path):
    return gguf.GGUFReader(path).fields["tokenizer.chat_template"].contents()

models = pathlib.Path(sys.argv[1])
TEMPLATES["smollm2"] = own_template(models / "SmolLM2-135M-Instruct.Q4_1.gguf")
TEMPLATES["qwen2.5-coder"] = own_template(models / "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf")
cases = []
for template, (name, messages), variant in itertools.product(TEMPLATES, CONVERSATIONS.items(), VARIANTS):
    case = {"template": template, "conversation": name, **variant}
    try:
        prompts, _ = render_jinja_template([[as_python(m) for m in messages]], tools=variant.get("tools"), chat_template=TEMPLATES[template],
                                           add_generation_prompt=variant["add_generation_prompt"], **SPECIAL, **variant.get("extra", {}))
        case["prompt"] = prompts[0]
    except jinja2.exceptions.TemplateError as error:
        case["refused"] = error.message
    except TypeError as error:
        case["refused"] = None
    # a variant that changes nothing tests nothing
    if not any(c["template"] == template and c["conversation"] == name and c.get("prompt") == case.get("prompt") for c in cases):
        cases.append(case)
out = {"made_with": {"transformers": transformers.__version__, "jinja2": jinja2.__version__}, "special_tokens": SPECIAL,
       "templates": TEMPLATES, "conversations": CONVERSATIONS, "cases": cases}
pathlib.Path(sys.argv[2]).parent.mkdir(parents=True, exist_ok=True)
json.dump(out, open(sys.argv[2], "w"), ensure_ascii=False, indent=0)
print(len(cases), "cases,", sum("refused" in c for c in cases), "refused")
