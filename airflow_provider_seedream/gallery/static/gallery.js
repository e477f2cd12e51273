// What the gallery's pages do by themselves: they take on Airflow's theme, follow links out of Airflow's
// frame, fill in tiles as images come, and say why an image cannot be shown. They work without it, too.
"use strict";
{
  const REFRESH = 5000; // milliseconds between two reads of this page, while images are being generated
  const SLOWEST = 30000; // and at most, while Airflow does not answer
  const BACK = "seedream-gallery"; // in the session's storage: the page of tiles that an image was opened from

  const page = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const airflow = airflowDocument();

  /** Airflow's own document, where it shows this page in its frame. */
  function airflowDocument() {
    try {
      return window.parent === window ? null : window.parent.document;
    } catch {
      return null; // of another origin
    }
  }

  // --- theme ---------------------------------------------------------------------------------------

  function storedTheme() {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null;
    }
  }

  function takeOnTheme() {
    const shown = airflow?.documentElement.classList;
    const theme = ["dark", "light"].find((name) => shown?.contains(name)) ?? storedTheme();
    // Anything else means that of the system, which the stylesheet follows.
    if (theme === "dark" || theme === "light") page.dataset.theme = theme;
    else delete page.dataset.theme;
  }

  page.dataset.script = "";
  if (airflow) {
    page.dataset.framed = "";
    new MutationObserver(takeOnTheme).observe(airflow.documentElement, { attributeFilter: ["class"] });
  }
  window.addEventListener("storage", takeOnTheme);
  takeOnTheme();

  // --- links ---------------------------------------------------------------------------------------

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    if (link.matches(".open")) rememberPage();
    if (airflow && "airflow" in link.dataset) {
      event.preventDefault();
      // The frame may neither leave for a page of Airflow nor download: a link of Airflow's own page may.
      airflow.importNode(link).click();
    }
  });

  /** So that the page of an image leads back to this page, its filters and its tile. */
  function rememberPage() {
    const tiles = Array.from(byId("tiles").children, (tile) => tile.id);
    try {
      sessionStorage.setItem(BACK, JSON.stringify({ address: location.pathname + location.search, tiles }));
    } catch {
      // Then it leads to the gallery of its task.
    }
  }

  function lead(back) {
    try {
      const { address, tiles } = JSON.parse(sessionStorage.getItem(BACK));
      if (tiles.includes(back.dataset.tile)) back.setAttribute("href", `${address}#${back.dataset.tile}`);
    } catch {
      // Nothing is remembered.
    }
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const forward = { ArrowLeft: false, ArrowRight: true }[event.key];
    if (forward === undefined || event.target.closest("input, select, pre, .actual")) return;
    const neighbour = byId("tiles") ? neighbourTile(event.target, forward) : null;
    if (neighbour) neighbour.focus();
    else if (byId("back")) document.querySelector(forward ? "a[rel=next]" : "a[rel=prev]")?.click();
  });

  function neighbourTile(element, forward) {
    const links = Array.from(document.querySelectorAll("#tiles .open"));
    const here = links.indexOf(element);
    return here < 0 ? null : links[here + (forward ? 1 : -1)];
  }

  // --- images that cannot be shown -----------------------------------------------------------------

  document.addEventListener("error", ({ target }) => "image" in (target.dataset ?? {}) && explain(target), true);

  const unanswered = []; // reasons and the images that they stand for, where Airflow did not answer at all

  async function explain(image) {
    const answer = await fetch(image.src, { cache: "no-store" }).catch(() => null);
    if (answer?.ok && !("again" in image.dataset)) {
      answer.body.cancel();
      image.dataset.again = "";
      image.src = image.src; // It was there the second time.
      return;
    }
    // Whoever may not see this image may no longer see others on this page: it is read again.
    if (isRefusal(answer)) refresh();
    const reason = await reasonOf(answer);
    const words = document.createElement("span");
    words.className = "reason";
    words.textContent = reason;
    image.closest(".open")?.setAttribute("aria-label", `${image.alt}. ${reason}`);
    image.replaceWith(words);
    if (!answer) unanswered.push([words, image]);
  }

  function askAgain() {
    for (const [words, image] of unanswered.splice(0)) {
      words.closest(".open")?.removeAttribute("aria-label");
      words.replaceWith(image);
      image.src = image.src;
    }
  }

  async function reasonOf(answer) {
    if (!answer) return "Airflow does not answer.";
    const isText = answer.headers.get("Content-Type")?.startsWith("text/plain");
    if (!answer.ok && isText) return (await answer.text()).slice(0, 500);
    answer.body?.cancel();
    return "The image cannot be shown.";
  }

  // --- tiles that fill in --------------------------------------------------------------------------

  let delay = REFRESH;
  let timer = null;
  let refreshing = null;

  const isRefusal = (answer) => answer?.status === 401 || answer?.status === 403;
  const isGenerating = () => document.querySelector('#tiles > [data-state="GENERATING"]') !== null;

  function refreshLater() {
    clearTimeout(timer);
    if (isGenerating() && document.visibilityState === "visible") timer = setTimeout(refresh, delay);
  }

  /** Read this page again and take over what has changed; several calls at once are one. */
  function refresh() {
    refreshing ??= takeOver()
      .then(() => report(""), () => report("This page could not be brought up to date."))
      .finally(() => {
        refreshing = null;
        refreshLater();
      });
  }

  function report(trouble) {
    delay = trouble ? Math.min(2 * delay, SLOWEST) : REFRESH;
    const line = byId("trouble");
    if (line) line.textContent = trouble;
  }

  async function takeOver() {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(SLOWEST) });
    if (isRefusal(answer)) return refuse();
    askAgain();
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!byId("tiles")) return; // The page of one image does not change.
    if (!answer.ok || !fresh.getElementById("tiles")) throw new Error(`an answer ${answer.status} without tiles`);
    mergeTiles(byId("tiles"), fresh.getElementById("tiles"));
    for (const part of document.querySelectorAll("[data-part]")) {
      const now = fresh.getElementById(part.id);
      if (now && !part.isEqualNode(now)) part.replaceWith(now);
    }
  }

  /** Replace the tiles that differ and touch no other, so that focus, scroll and loaded images stay. */
  function mergeTiles(list, fresh) {
    const old = new Map(Array.from(list.children, (tile) => [tile.dataset.key, tile]));
    const now = Array.from(fresh.children, (tile) => old.get(tile.dataset.key) ?? document.importNode(tile, true));
    const added = now.filter((tile) => !list.contains(tile));
    const focused = document.activeElement?.closest("#tiles > li");
    for (const tile of old.values()) if (!now.includes(tile)) tile.remove();
    now.forEach((tile, place) => {
      if (list.children[place] !== tile) list.insertBefore(tile, list.children[place] ?? null);
    });
    if (focused && !focused.isConnected) keepFocus(list, focused.dataset.task);
    announce(added);
  }

  function keepFocus(list, task) {
    const tile = Array.from(list.children).find((one) => one.dataset.task === task);
    (tile?.querySelector("a") ?? list).focus({ preventScroll: true });
  }

  function announce(tiles) {
    const count = (state) => tiles.filter((tile) => tile.dataset.state === state).length;
    const images = count("image");
    const failures = count("FAILED");
    const news = [];
    if (images) news.push(images === 1 ? "1 image is ready" : `${images} images are ready`);
    if (failures) news.push(failures === 1 ? "1 task failed" : `${failures} tasks failed`);
    if (news.length) byId("announcement").textContent = news.join(", ");
  }

  /** The right to see this page is gone: so is everything on it. */
  function refuse() {
    const message = byId("refused");
    if (!message) return;
    document.body.replaceChildren(message.content.cloneNode(true));
    const main = document.querySelector("main");
    document.title = main.querySelector("h1").textContent;
    main.focus();
  }

  document.addEventListener("visibilitychange", () => (document.visibilityState === "visible" ? refresh() : refreshLater()));
  window.addEventListener("online", refresh);
  window.addEventListener("pageshow", (event) => event.persisted && refresh());

  // --- the page of one image -----------------------------------------------------------------------

  function toggleActualSize() {
    const isActual = byId("stage").classList.toggle("actual");
    byId("zoom").setAttribute("aria-pressed", String(isActual));
    byId("stage").tabIndex = isActual ? 0 : -1; // A person must be able to scroll it by keyboard.
  }

  document.addEventListener("DOMContentLoaded", () => {
    if (byId("back")) lead(byId("back"));
    byId("zoom")?.addEventListener("click", toggleActualSize);
    byId("stage")?.addEventListener("click", toggleActualSize);
    byId("select")?.addEventListener("click", () => getSelection().selectAllChildren(byId("prompt")));
    refreshLater();
  });
}
