"use strict";
(() => {
  const every = 10000;
  const pause = document.getElementById("pause");
  let paused = false;
  let busy = false;
  const say = (text) => { document.getElementById("updates").textContent = text; };
  const told = () => say(paused ? "Updates are paused." : `Updated every ${every / 1000} s.`);
  const focused = () => {
    const element = document.activeElement;
    return document.getElementById("live").contains(element) ? element.getAttribute("href") : null;
  };
  const update = async () => {
    if (paused || busy || document.hidden) { return; }
    busy = true;
    try {
      const headers = { "X-Promgithub-Part": "live" };
      const answer = await fetch(location.href, { headers, cache: "no-store", signal: AbortSignal.timeout(15000) });
      if (!answer.ok) { throw new Error(`the answer is ${answer.status}`); }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
      if (!paused && String(getSelection()) === "") {
        const href = focused();
        document.getElementById("live").replaceWith(fresh);
        if (href !== null) {
          const again = [...fresh.querySelectorAll("a")].find((one) => one.getAttribute("href") === href);
          if (again) { again.focus({ preventScroll: true }); }
        }
        told();
      }
    } catch (error) {
      say(`The last update failed (${error.message}); trying again.`);
    } finally {
      busy = false;
    }
  };
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on with updates" : "Pause updates";
    told();
    if (!paused) { update(); }
  });
  told();
  setInterval(update, every);
})();
