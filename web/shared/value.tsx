import { useState } from 'preact/hooks';
import { count, cut, partsOf } from './text';

/** Shows a text from outside as text: isolated from what is around it, and with its hidden characters named. */
export function Outside({ text }: { readonly text: string }) {
  return (
    <bdi>
      {partsOf(text).map((part) =>
        'text' in part ? (
          part.text
        ) : (
          <span class="control" title={`The invisible character ${part.hidden}`}>
            {part.hidden}
          </span>
        ),
      )}
    </bdi>
  );
}

/** Shows a value of a record, or another long text from outside; what is longer than the limit, on demand. */
export function Value({ text, limit = 300 }: { readonly text: string; readonly limit?: number }) {
  const [isWhole, setWhole] = useState(false);
  if (text.length <= limit)
    return (
      <span class="value">
        <Outside text={text} />
      </span>
    );
  return (
    <span>
      {isWhole ? (
        <span class="value whole" tabIndex={0} role="group" aria-label="The whole value">
          <Outside text={text} />
        </span>
      ) : (
        <span class="value">
          <Outside text={cut(text, limit)} />…
        </span>
      )}{' '}
      <button type="button" class="text small" aria-expanded={isWhole} onClick={() => setWhole(!isWhole)}>
        {isWhole ? 'Show less' : `Show all ${count(text.length, 'character')}`}
      </button>
    </span>
  );
}

const step = 50;

/** Shows the first values of a list, and further ones on demand. */
export function Values({ values, limit = 5 }: { readonly values: readonly string[]; readonly limit?: number }) {
  const [shown, setShown] = useState(limit);
  const left = values.length - shown;
  return (
    <div>
      <ul class="plain">
        {values.slice(0, shown).map((value, index) => (
          <li key={index}>
            <Value text={value} />
          </li>
        ))}
      </ul>
      {left > 0 && (
        <button type="button" class="text small" onClick={() => setShown(shown + step)}>
          Show {Math.min(step, left)} more of {count(left, 'further value')}
        </button>
      )}
    </div>
  );
}

/** Shows what the API says of a zone: prose, which may quote what is published there. */
export function Prose({ text }: { readonly text: string }) {
  const [isWhole, setWhole] = useState(false);
  const limit = 600;
  return (
    <>
      <Outside text={isWhole ? text : cut(text, limit)} />
      {text.length > limit && (
        <>
          {isWhole ? ' ' : '… '}
          <button type="button" class="text" aria-expanded={isWhole} onClick={() => setWhole(!isWhole)}>
            {isWhole ? 'Show less' : 'Show all'}
          </button>
        </>
      )}
    </>
  );
}

/** Says how the value of an MX record is entered where its priority has a field of its own. */
export function MxFields({ type, value }: { readonly type: string; readonly value: string }) {
  const [priority, server] = value.split(' ');
  if (type !== 'MX' || server === undefined) return null;
  return (
    <p class="quiet small">
      Where there are two fields: priority <Value text={priority!} />, mail server <Value text={server} />
    </p>
  );
}
