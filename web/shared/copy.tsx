import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { announce } from './announce';

/** Puts a text on the clipboard; gives whether the browser has let us. */
async function toClipboard(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without TLS, or where it is not allowed, there is only the older way.
    const area = document.createElement('textarea');
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}

/** @param what the text is, for those who hear the button without seeing what is beside it. */
export function CopyButton({ text, what }: { readonly text: string; readonly what: string }) {
  const [outcome, setOutcome] = useState<'copied' | 'refused'>();
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async (): Promise<void> => {
    const done = await toClipboard(text);
    setOutcome(done ? 'copied' : 'refused');
    announce(done ? `Copied ${what}.` : `The browser does not let this page copy: select ${what} and copy it.`);
    clearTimeout(timer.current);
    timer.current = window.setTimeout(() => setOutcome(undefined), 2_500);
  };
  const words = outcome === 'copied' ? '✓ Copied' : outcome === 'refused' ? 'Not copied' : 'Copy';
  return (
    <button type="button" class="copy" aria-label={`${words} ${what}`} onClick={() => void copy()}>
      {words}
    </button>
  );
}

/** Shows something with a button that copies it. */
export function Copied({
  text,
  what,
  children,
}: {
  readonly text: string;
  readonly what: string;
  readonly children: ComponentChildren;
}) {
  return (
    <div class="copied">
      <div>{children}</div>
      <CopyButton text={text} what={what} />
    </div>
  );
}
