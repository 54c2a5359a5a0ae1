// Search of a site that is opened from a disk. Browsers start no worker for a page of a file; there the worker's script
// runs in a hidden frame of the same page, and messages go through a channel. It is what search asks for and no more:
// new Worker(url), postMessage, "message" events, terminate; and inside postMessage, "message" events, importScripts.
"use strict";

class FrameWorker extends EventTarget {
  constructor(url) {
    super();
    const { port1: outer, port2: inner } = new MessageChannel();
    this.channel = outer;
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    this.frame.srcdoc = "<!doctype html><title>worker</title><body></body>";
    this.started = this.run(new URL(url, location.href).href, inner);
    document.body.append(this.frame);
    outer.onmessage = ({ data }) => {
      const message = new MessageEvent("message", { data });
      this.dispatchEvent(message);
      this.onmessage?.(message);
    };
  }

  async run(url, channel) {
    await new Promise((loaded) => this.frame.addEventListener("load", loaded, { once: true }));
    const scope = this.frame.contentWindow;
    const script = (address) =>
      new Promise((loaded, failed) => {
        const element = scope.document.createElement("script");
        element.src = address;
        element.onload = loaded;
        element.onerror = () => failed(new Error(`${address} cannot be read`));
        scope.document.body.append(element);
      });
    scope.postMessage = (data) => channel.postMessage(data);
    scope.importScripts = async (...addresses) => {
      for (const address of addresses) await script(new URL(address, url).href);
    };
    await script(url);
    channel.onmessage = ({ data }) => scope.dispatchEvent(new scope.MessageEvent("message", { data }));
  }

  postMessage(data) {
    this.channel.postMessage(data); // kept until the other side listens
  }

  terminate() {
    this.channel.close();
    this.frame.remove();
  }
}

if (location.protocol === "file:") window.Worker = FrameWorker;
