// What the page asks of its server. No other host is ever asked.

import { events } from "./sse.js";

const KEY = "lossy-api-key";

/** An answer that is an error, in the server's own words. */
export class ApiError extends Error {
  constructor(status, { message, param = null, code = null }) {
    super(message);
    this.status = status;
    this.param = param;
    this.code = code;
  }
}

/** Asks the user for the key; set by the page. It answers with the key, or null if the user has none. */
let askForKey = async () => null;
let asking = null;

/** Who is asked for the key that the server wants. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

function key() {
  return sessionStorage.getItem(KEY);
}

/** Wherever several requests find out at once that a key is needed, the user is asked once. */
async function newKey(isWrong) {
  asking ??= askForKey(isWrong).finally(() => (asking = null));
  const given = await asking;
  if (given) sessionStorage.setItem(KEY, given);
  return given;
}

async function request(method, path, body, signal) {
  // Relative to the page, so that a proxy may serve both below a folder.
  const url = new URL(path, document.baseURI);
  for (;;) {
    const sent = key();
    const headers = { ...(body && { "Content-Type": "application/json" }), ...(sent && { Authorization: `Bearer ${sent}` }) };
    let response;
    try {
      response = await fetch(url, { method, headers, body: body && JSON.stringify(body), signal, credentials: "omit" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, { message: "the server does not answer: is it running?" });
    }
    if (response.ok) return response;
    const failure = await errorOf(response);
    // Another request may have brought the key in the meantime.
    if (response.status !== 401 || (key() === sent && !(await newKey(Boolean(sent))))) throw failure;
  }
}

async function errorOf(response) {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text);
    return new ApiError(response.status, { ...error, message: String(error.message) });
  } catch {
    return new ApiError(response.status, { message: `the server answered with status ${response.status}: ${text.slice(0, 300)}` });
  }
}

/** The JSON at a path. */
export async function get(path, signal) {
  return (await request("GET", path, undefined, signal)).json();
}

/** The JSON that a body is answered with. */
export async function post(path, body, signal) {
  return (await request("POST", path, body, signal)).json();
}

/** The chunks of a chat's answer. */
export async function* streamChat(body, signal) {
  const response = await request("POST", "v1/chat/completions", body, signal);
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(200, chunk.error);
    yield chunk;
  }
  throw new ApiError(0, { message: "the connection ended in the middle of the answer" });
}

/** How many tokens a text has; words that look like control tokens are text. */
export async function countText(content, signal) {
  return (await post("tokenize", { content, parse_special: false }, signal)).count;
}

/** How many tokens the prompt of a chat request has. */
export async function countPrompt({ messages, tools }, signal) {
  return (await post("tokenize", { messages, ...(tools && { tools }) }, signal)).count;
}
