// The body of a chat request: what a conversation says, and how it is asked.

const SAMPLING = ["temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "kv", "positions"];

/** A user's message with its documents before it: the cache has a document whatever is asked about it. */
export function contentOf(message, documents) {
  const texts = message.documents.map((id) => documents.get(id)).filter(Boolean);
  return [...texts.map(({ name, text }) => `<document name="${name.replace(/["<>\n]/g, "_")}">\n${text}\n</document>\n`), message.content].join("\n");
}

/** The messages of a path in OpenAI's words. */
export function messagesOf(conversation, path) {
  const messages = path.map((message) => {
    switch (message.role) {
      case "user":
        return { role: "user", content: contentOf(message, conversation.documents) };
      case "tool":
        return { role: "tool", tool_call_id: message.callId, name: message.name, content: message.content };
      default:
        return assistant(message);
    }
  });
  const system = conversation.settings.system.trim();
  return [...(system ? [{ role: "system", content: system }] : []), ...messages.filter(Boolean)];
}

function assistant({ content, reasoning, calls }) {
  // An answer that was stopped before its first word says nothing.
  if (!content && !calls.length) return null;
  const tool_calls = calls.map((call) => ({
    id: call.id,
    type: "function",
    function: { name: call.name, arguments: call.arguments },
  }));
  return {
    role: "assistant",
    content: content || null,
    ...(reasoning && { reasoning_content: reasoning }),
    ...(calls.length && { tool_calls }),
  };
}

/** The request that continues a path. */
export function requestOf(conversation, path) {
  const { settings } = conversation;
  const tools = toolsOf(settings.tools);
  const body = { messages: messagesOf(conversation, path), ...(tools.length && { tools }) };
  for (const name of SAMPLING) {
    if (settings[name] !== null) body[name] = settings[name];
  }
  return body;
}

/** What a stream has besides. */
export const STREAMED = { stream: true, stream_options: { include_usage: true }, return_progress: true };

/** Definitions of tools as the settings have them: a list of functions in OpenAI's shape, or of what is within `function`. */
export function toolsOf(text) {
  if (!text.trim()) return [];
  let list;
  try {
    list = JSON.parse(text);
  } catch (error) {
    throw new Error(`the tools are not JSON: ${error.message}`);
  }
  if (!Array.isArray(list)) throw new Error("the tools are not a list: [{\"name\": …, \"parameters\": {…}}]");
  return list.map((tool, index) => {
    const own = tool?.function ?? tool;
    if (typeof own?.name !== "string") throw new Error(`tool ${index + 1} has no name`);
    return tool.function ? tool : { type: "function", function: tool };
  });
}
