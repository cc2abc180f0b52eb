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

// A browser keeps few connections to a server, so a page that is not looked at gives its own back.
const AGAIN = 5000;
let source = null;

function say(text, look, title = "") {
  const said = document.getElementById("link");
  said.textContent = text;
  said.className = "link " + look;
  said.title = title;
}

function follow() {
  if (source) return;
  source = new EventSource("/live" + location.pathname + location.search);
  source.addEventListener("parts", (event) => {
    for (const [id, html] of Object.entries(JSON.parse(event.data))) put(id, html);
    reach();
    say("live", "good");
  });
  source.addEventListener("away", (event) => {
    const why = JSON.parse(event.data);
    say(why ? "nothing new is seen for now" : "live", why ? "warn" : "good", why);
  });
  source.addEventListener("end", () => {
    leave();
    document.body.removeAttribute("data-live");
    say("ended", "calm");
  });
  source.onerror = () => {
    say("not connected; trying again", "warn");
    if (source.readyState === EventSource.CLOSED) { // refused: the browser does not come back by itself
      leave();
      setTimeout(look, AGAIN);
    }
  };
}

function leave() {
  if (source) source.close();
  source = null;
}

function look() {
  if (document.body.hasAttribute("data-live") && document.visibilityState === "visible") follow();
}

// The slider of a job leads to each instant at which something happened to it, also to those that come.
function instants() {
  return document.querySelector("[data-instants]").dataset.instants.split(" ");
}

function reach() {
  const slider = document.querySelector("[data-slider]");
  if (!slider) return;
  const newest = slider.value === slider.max;
  slider.max = instants().length - 1;
  if (newest) slider.value = slider.max;
  slider.disabled = slider.max === "0";
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
    const moment = instants()[slider.value];
    location.search = "?at=" + encodeURIComponent(moment);
  }
});

addEventListener("input", (event) => {
  const slider = event.target.closest("[data-slider]");
  if (!slider) return;
  const moment = instants()[slider.value];
  slider.closest("form").querySelector("[data-at]").value = moment.replace("Z", "").slice(0, 23);
});

// An empty field of a filter is not said in the address.
addEventListener("submit", (event) => {
  for (const field of event.target.querySelectorAll("input, select")) if (!field.value) field.disabled = true;
});
addEventListener("pageshow", () => {
  for (const field of document.querySelectorAll("form :disabled:not([data-slider])")) field.disabled = false;
});

addEventListener("pagehide", leave);
addEventListener("pageshow", look);
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" ? look() : leave());
look();
