// A browser starts no worker from a folder, and the search of the site runs in one. Where the site is read from a folder,
// its script runs in a hidden frame instead, which stands in for the worker.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      this.inner = frame.contentWindow
      // What the script sends goes to whoever started it.
      this.inner.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      this.inner.importScripts = (...urls) => urls.reduce((last, one) => last.then(() => this.load(one)), Promise.resolve())
      this.ready = this.load(url)
      this.ready.catch(() => this.dispatchEvent(new Event("error")))
    }

    load(url) {
      return new Promise((resolve, reject) => {
        const script = this.inner.document.createElement("script")
        script.src = new URL(url, location.href).href
        script.onload = resolve
        script.onerror = reject
        this.inner.document.head.appendChild(script)
      })
    }

    postMessage(data) {
      this.ready.then(() => this.inner.dispatchEvent(new MessageEvent("message", { data })), () => {})
    }

    terminate() {
      this.inner.frameElement.remove()
    }
  }
}
