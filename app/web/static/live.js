// Live state by server-sent events, read by fetch because EventSource cannot send a key. If the server has no free
// stream, poll instead.
import { get, send } from "./api.js";

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// While the page is visible: calls onState(state) at each change, onConnection(how, error) when the connection changes.
export async function follow(onState, onConnection) {
  for (;;) {
    await visible();
    try {
      await stream(onState, onConnection);
      continue;
    } catch (error) {
      if (error.status !== 503) {
        onConnection("off", error);
        await pause(3000);
      }
    }
    await poll(onState, onConnection);
  }
}

const visible = () =>
  document.visibilityState === "visible"
    ? Promise.resolve()
    : new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true })).then(visible);

async function stream(onState, onConnection) {
  const ending = new AbortController();
  const hide = () => document.visibilityState === "hidden" && ending.abort();
  document.addEventListener("visibilitychange", hide);
  try {
    const response = await send("/v1/operation/events", { signal: ending.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        if (!event.startsWith("data: ")) continue;
        const state = JSON.parse(event.slice(6));
        if (state.error) onConnection("off", state.error);
        else {
          onConnection("stream");
          onState(state);
        }
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  } finally {
    document.removeEventListener("visibilitychange", hide);
  }
}

// Polls for half a minute, then the caller tries a stream again.
async function poll(onState, onConnection) {
  for (let turn = 0; turn < 10 && document.visibilityState === "visible"; turn++) {
    try {
      onState(await get("/v1/operation"));
      onConnection("poll");
    } catch (error) {
      onConnection("off", error);
    }
    await pause(3000);
  }
}
