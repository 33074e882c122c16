// Browsers refuse Workers to pages that are opened as files. The search then runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.element = document.createElement("iframe");
      this.element.hidden = true;
      document.body.append(this.element);
      const frame = this.element.contentWindow;
      frame.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.ready = new Promise((resolve) => {
        const script = frame.document.createElement("script");
        script.src = url;
        script.onload = () => resolve(frame);
        frame.document.head.append(script);
      });
    }
    async postMessage(data) {
      const frame = await this.ready;
      frame.dispatchEvent(new frame.MessageEvent("message", { data }));
    }
    terminate() {
      this.element.remove();
    }
  };
}
