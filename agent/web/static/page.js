// Keeps the page current. The page comes whole from the server; this asks for it again
// and lets the server hold the answer until something has changed. Only parts that
// differ are replaced, so that a selection, an opened table and the scroll stay. When
// the agent stops answering, the page says so: old news must never look like news.
"use strict";

(() => {
  const HOLD_S = 5;
  const RETRY_S = [1, 2, 5, 10];
  const parser = new DOMParser();
  const lost = document.getElementById("lost");
  let tag = "";
  let failures = 0;
  let heard = new Date();

  const pause = (seconds) =>
    new Promise((done) => setTimeout(done, 1000 * seconds));

  const clock = (date) => date.toISOString().slice(11, 19) + " UTC";

  function take(text) {
    const next = parser.parseFromString(text, "text/html");
    document.title = next.title;
    const icon = document.querySelector("link[rel=icon]");
    const nextIcon = next.querySelector("link[rel=icon]");
    if (icon && nextIcon && icon.getAttribute("href") !== nextIcon.getAttribute("href")) {
      icon.setAttribute("href", nextIcon.getAttribute("href"));
    }
    for (const part of next.querySelectorAll("[data-part]")) {
      const name = part.dataset.part;
      const old = document.querySelector(`[data-part="${name}"]`);
      if (!old || sources.get(name) === part.outerHTML) continue;
      sources.set(name, part.outerHTML);
      const open = [...old.querySelectorAll("details[open]")].map((one) => one.id);
      old.replaceWith(part);
      for (const id of open) {
        const details = document.getElementById(id);
        if (details) details.open = true;
      }
      offerCopies(part);
    }
  }

  // A button behind each command. The text stays selectable without it.
  function offerCopies(root) {
    if (!navigator.clipboard) return;
    for (const command of root.querySelectorAll("code.command")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy";
      button.textContent = "Copy";
      button.setAttribute("aria-label", `Copy ${command.textContent}`);
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(command.textContent);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      });
      command.after(button);
    }
  }

  function alarm(reason) {
    lost.textContent =
      `This agent does not answer since ${clock(heard)} (${reason}). ` +
      "What you see below is old.";
    lost.hidden = false;
    document.body.classList.add("is-lost");
  }

  function calm() {
    heard = new Date();
    failures = 0;
    lost.hidden = true;
    document.body.classList.remove("is-lost");
  }

  async function round() {
    const response = await fetch(`/?wait=${HOLD_S}`, {
      headers: tag ? { "If-None-Match": tag } : {},
      cache: "no-store",
      signal: AbortSignal.timeout(1000 * (HOLD_S + 10)),
    });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    const text = await response.text();
    tag = response.headers.get("ETag") || "";
    take(text);
    calm();
    if (!tag) await pause(HOLD_S);
  }

  async function follow() {
    for (;;) {
      try {
        await round();
      } catch (error) {
        alarm(error instanceof Error ? error.message : "no connection");
        await pause(RETRY_S[Math.min(failures++, RETRY_S.length - 1)]);
      }
    }
  }

  const sources = new Map();
  for (const part of document.querySelectorAll("[data-part]")) {
    sources.set(part.dataset.part, part.outerHTML);
  }
  offerCopies(document);
  follow();
})();
