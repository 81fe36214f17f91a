// The state as it changes: server-sent events, read by fetch, since EventSource cannot send a key; by polling where the
// server has no stream left to give.
import { get, send } from "./api.js";

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Calls tell(state) at each change, and say(how, error) as the connection comes and goes. Only while the page is seen.
export async function follow(tell, say) {
  for (;;) {
    await seen();
    try {
      await stream(tell, say);
      continue;
    } catch (error) {
      if (error.status !== 503) {
        say("off", error);
        await pause(3000);
      }
    }
    await poll(tell, say);
  }
}

const seen = () =>
  document.visibilityState === "visible"
    ? Promise.resolve()
    : new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true })).then(seen);

async function stream(tell, say) {
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
        const told = JSON.parse(event.slice(6));
        if (told.error) say("off", told.error);
        else {
          say("stream");
          tell(told);
        }
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  } finally {
    document.removeEventListener("visibilitychange", hide);
  }
}

// For half a minute, then a stream is asked for again.
async function poll(tell, say) {
  for (let turn = 0; turn < 10 && document.visibilityState === "visible"; turn++) {
    try {
      tell(await get("/v1/operation"));
      say("poll");
    } catch (error) {
      say("off", error);
    }
    await pause(3000);
  }
}
