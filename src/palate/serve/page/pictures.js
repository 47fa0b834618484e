// Charts as SVG; the page shows their numbers as text too.
const SVG = Object.assign(document.createElement("template"), { innerHTML: "<svg></svg>" }).content.firstChild.namespaceURI;
export const drawn = (kind, fields, ...parts) => {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(fields)) made.setAttribute(name, value);
  made.append(...parts);
  return made;
};
const WIDTH = 200, EDGE = 5;
const place = (scale, value) => EDGE + (WIDTH - 2 * EDGE) * Math.min(1, Math.max(0, (value - scale.least) / (scale.most - scale.least)));

// lanes: {estimate, before, against}, each a line with a band for the interval and a tick for a user without events
export function lanes(scale, several) {
  const picture = drawn("svg", { viewBox: `0 0 ${WIDTH} ${13 * several.length + 3}`, class: "lanes", "aria-hidden": "true" });
  several.forEach(({ estimate, before, against }, at) => {
    const y = 8 + 13 * at, x = (value) => place(scale, value);
    const lane = drawn("g", { class: against ? "against" : "for" });
    lane.append(drawn("line", { class: "rail", x1: EDGE, x2: WIDTH - EDGE, y1: y, y2: y }));
    if (scale.mark != null) lane.append(drawn("line", { class: "yardstick", x1: x(scale.mark), x2: x(scale.mark), y1: y - 6, y2: y + 6 }));
    lane.append(drawn("rect", { class: "band", x: x(estimate.low), y: y - 4, width: Math.max(1, x(estimate.high) - x(estimate.low)), height: 8, rx: 4 }));
    lane.append(drawn("line", { class: "everyone", x1: x(estimate.everyone), x2: x(estimate.everyone), y1: y - 5, y2: y + 5 }));
    if (before != null && Math.abs(x(before) - x(estimate.value)) > 1)
      lane.append(drawn("line", { class: "moved", x1: x(before), x2: x(estimate.value), y1: y, y2: y }), drawn("circle", { class: "was", cx: x(before), cy: y, r: 3.4 }));
    lane.append(drawn("circle", { class: "is", cx: x(estimate.value), cy: y, r: 4.4 }));
    picture.append(lane);
  });
  return picture;
}

// lines: {name, values}; points: {events, label}
export function lines(scale, points, several, wide) {
  const width = wide ? 560 : 330, height = 210, left = 44, right = wide ? 150 : 110, top = 10, bottom = 36;
  const x = (at) => left + (width - left - right) * (points.length < 2 ? 1 : (points[at].events - points[0].events) / (points.at(-1).events - points[0].events || 1));
  const y = (value) => top + (height - top - bottom) * (1 - (value - scale.least) / (scale.most - scale.least));
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, class: `picture ${wide ? "wide" : "narrow"}`, role: "img", "aria-label": scale.said });
  for (const value of scale.ticks) {
    picture.append(drawn("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    picture.append(drawn("text", { class: "tick", x: left - 8, y: y(value) + 4, "text-anchor": "end" }, scale.format(value)));
  }
  const ends = new Set([0, points.length - 1]);
  for (const at of ends) {
    const anchor = at || points.length < 2 ? "end" : "start";
    picture.append(drawn("text", { class: "tick", x: x(at), y: height - 18, "text-anchor": anchor }, points[at].label));
    if (points[at].when) picture.append(drawn("text", { class: "tick", x: x(at), y: height - 3, "text-anchor": anchor }, points[at].when));
  }
  // labels at the ends of the lines, moved apart where these are close
  const names = several.map((one, at) => ({ at, y: y(one.values.at(-1)) })).sort((one, other) => one.y - other.y);
  names.forEach((one, at) => { if (at) one.y = Math.max(one.y, names[at - 1].y + 15); });
  const over = Math.max(0, names.at(-1)?.y - (height - bottom + 8));
  for (const one of names) one.y -= over;
  several.forEach((one, number) => {
    const tone = `model-${number + 1}`, path = one.values.map((value, at) => `${x(at)},${y(value)}`).join(" ");
    picture.append(drawn("polyline", { class: `line ${tone}`, points: path }));
    one.values.forEach((value, at) => picture.append(drawn("circle", { class: `dot ${tone}`, cx: x(at), cy: y(value), r: 3 })));
    picture.append(drawn("text", { class: `name ${tone}`, x: width - right + 10, y: names.find((name) => name.at === number).y + 4 }, one.name));
  });
  return picture;
}
