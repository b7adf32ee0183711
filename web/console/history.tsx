import { useState } from 'preact/hooks';
import { answerTo } from '../shared/api';
import { DomainStatus } from '../shared/badge';
import { Problem } from '../shared/problem';
import { Records } from '../shared/records';
import { localToTime, shownTime } from '../shared/time';
import { Prose } from '../shared/value';
import { Field, List } from './parts';
import { useSession } from './session';
import { useLoaded, usePages } from './use-api';

/** Shows what happened to a domain in words, and the domain as it was at any time. */
export function HistorySection({ id }: { readonly id: string }) {
  const [isOpen, setOpen] = useState(false);
  const [typed, setTyped] = useState('');
  const [asOf, setAsOf] = useState<string>();
  return (
    <section class="card" aria-labelledby="history">
      <h2 id="history">What happened</h2>
      {isOpen ? (
        <Timeline id={id} onTime={setAsOf} />
      ) : (
        <p>
          <button type="button" onClick={() => setOpen(true)}>
            Show what happened
          </button>
        </p>
      )}
      <form
        class="row"
        onSubmit={(event) => {
          event.preventDefault();
          setAsOf(localToTime(typed) ?? undefined);
        }}
      >
        <Field
          id="as-of"
          label="As it was at"
          type="datetime-local"
          step="1"
          required
          value={typed}
          onValue={setTyped}
        />
        <button>Show</button>
      </form>
      {asOf !== undefined && <Past key={asOf} id={id} asOf={asOf} onClose={() => setAsOf(undefined)} />}
    </section>
  );
}

function Timeline({ id, onTime }: { readonly id: string; readonly onTime: (time: string) => void }) {
  const { api } = useSession();
  const pages = usePages(
    (cursor) => answerTo(api.GET('/domains/{id}/history', { params: { path: { id }, query: { cursor } } })),
    [api, id],
  );
  return (
    <List pages={pages} empty={<p>Nothing yet.</p>}>
      {(entries) => (
        <ol class="steps">
          {entries.map((entry) => (
            <li key={entry.id}>
              <p>
                <Prose text={entry.sentence} />
              </p>
              <p class="quiet small">
                {shownTime(entry.time)} · <Prose text={entry.actor.words} /> ·{' '}
                <button
                  type="button"
                  class="text"
                  aria-label={`as it was then, after step ${entry.version}`}
                  onClick={() => onTime(entry.time)}
                >
                  as it was then
                </button>
              </p>
            </li>
          ))}
        </ol>
      )}
    </List>
  );
}

function Past({ id, asOf, onClose }: { readonly id: string; readonly asOf: string; readonly onClose: () => void }) {
  const { api } = useSession();
  const { value, failure } = useLoaded(
    () => answerTo(api.GET('/domains/{id}', { params: { path: { id }, query: { as_of: asOf } } })),
    [api, id, asOf],
  );
  return (
    <div class="stack" role="region" aria-label={`As it was at ${shownTime(asOf)}`}>
      <div class="row apart">
        <h3>As it was at {shownTime(asOf)}</h3>
        <button type="button" onClick={onClose}>
          Close
        </button>
      </div>
      {failure && <Problem failure={failure} />}
      {value ? (
        <>
          <p>
            <DomainStatus status={value.data.verification_status} />
          </p>
          <Records records={value.data.records} />
        </>
      ) : (
        !failure && <p>Reading …</p>
      )}
    </div>
  );
}
