// What a page does beside being read: it keeps itself up to date, and can be used from the keyboard.
"use strict";

// Puts new content into an element, and leaves alone what stays: focus, selection, what is folded out.
function put(id, html) {
  const element = document.getElementById(id);
  if (!element) return;
  const open = new Set([...element.querySelectorAll("details[open]")].map((one) => one.id));
  Idiomorph.morph(element, html, { morphStyle: "innerHTML" });
  for (const one of element.querySelectorAll("details")) if (open.has(one.id)) one.open = true;
}

function follow() {
  const said = document.getElementById("link");
  const say = (text, look) => { said.textContent = text; said.className = "link " + look; };
  const source = new EventSource("/live" + location.pathname + location.search);
  source.addEventListener("parts", (event) => {
    for (const [id, html] of Object.entries(JSON.parse(event.data))) put(id, html);
    say("live", "good");
  });
  source.addEventListener("away", (event) => {
    const why = JSON.parse(event.data);
    say(why ? "nothing new is seen for now" : "live", why ? "warn" : "good");
    said.title = why;
  });
  source.addEventListener("end", () => { source.close(); say("ended", "calm"); });
  source.onerror = () => say("not connected; trying again", "warn");
  addEventListener("pagehide", () => source.close());
}

// j and k move through the rows of a list, Enter opens one, / searches.
function move(step) {
  const links = [...document.querySelectorAll("[data-rows] tr")].map((row) => row.querySelector("a")).filter(Boolean);
  if (!links.length) return;
  const at = links.findIndex((link) => link.closest("tr").contains(document.activeElement));
  links[Math.min(Math.max(at + step, 0), links.length - 1)].focus();
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "/") {
    const search = document.querySelector("[data-search]");
    if (!search) return;
    event.preventDefault();
    search.select();
  }
});

addEventListener("change", (event) => {
  const form = event.target.closest("[data-filters]");
  if (form) form.requestSubmit();
  const slider = event.target.closest("[data-slider]");
  if (slider) {
    const moment = slider.dataset.slider.split(" ")[slider.value];
    location.search = "?at=" + encodeURIComponent(moment);
  }
});

addEventListener("input", (event) => {
  const slider = event.target.closest("[data-slider]");
  if (!slider) return;
  const moment = slider.dataset.slider.split(" ")[slider.value];
  slider.closest("form").querySelector("[data-at]").value = moment.replace("Z", "").slice(0, 23);
});

// An empty field of a filter is not said in the address.
addEventListener("submit", (event) => {
  for (const field of event.target.querySelectorAll("input, select")) if (!field.value) field.disabled = true;
});
addEventListener("pageshow", () => {
  for (const field of document.querySelectorAll("form :disabled:not([data-slider])")) field.disabled = false;
});

if (document.body.hasAttribute("data-live")) follow();
