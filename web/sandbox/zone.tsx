import { useState } from 'preact/hooks';
import { announce } from '../shared/announce';
import { count } from '../shared/text';
import { Value, Values } from '../shared/value';
import { ask, recordPath, type ZoneRecords } from './api';
import { useAsked } from './use-asked';

const types = ['MX', 'TXT', 'CNAME', 'A', 'NS'] as const;
const hints: Record<(typeof types)[number], string> = {
  MX: '10 mail.sendmux.ai',
  TXT: 'v=DMARC1; p=quarantine',
  CNAME: 'token.dkim.amazonses.com',
  A: '192.0.2.1',
  NS: 'ada.ns.cloudflare.com',
};
const page = 100;

export function ZoneSection() {
  const { answer: records, fault, reload } = useAsked<ZoneRecords>('/zone');
  const [name, setName] = useState('');
  const [type, setType] = useState<(typeof types)[number]>('MX');
  const [values, setValues] = useState('');
  const [refusal, setRefusal] = useState<string>();
  const [part, setPart] = useState('');
  const [shown, setShown] = useState(page);

  async function act(what: string, request: () => Promise<unknown>): Promise<void> {
    try {
      await request();
      setRefusal(undefined);
      announce(what);
      await reload();
    } catch (error) {
      setRefusal((error as Error).message);
    }
  }
  const save = (event: Event): void => {
    event.preventDefault();
    const lines = values.split('\n').filter((line) => line.trim() !== '');
    void act(`${type} ${name} is published.`, () => ask('PUT', recordPath(name.trim(), type), lines));
  };
  const sets = Object.entries(records ?? {})
    .filter(([owner]) => owner.includes(part.toLowerCase()))
    .flatMap(([owner, of]) => Object.entries(of).map(([kind, list]) => ({ owner, kind, list })));

  return (
    <section class="card" aria-labelledby="zone">
      <h2 id="zone">The zone</h2>
      <p class="quiet">
        One zone for the whole DNS. Both resolvers answer from it at once: nothing waits for a TTL to pass here.
      </p>
      <PlaceAll act={act} />
      <form class="stack" onSubmit={save}>
        <h3>One record set</h3>
        <div class="row">
          <div class="wide">
            <label for="record-name">Full name</label>
            <input
              id="record-name"
              required
              autocomplete="off"
              spellcheck={false}
              value={name}
              onInput={({ currentTarget }) => setName(currentTarget.value)}
            />
          </div>
          <div>
            <label for="record-type">Type</label>
            <select
              id="record-type"
              value={type}
              onChange={({ currentTarget }) => setType(currentTarget.value as typeof type)}
            >
              {types.map((each) => (
                <option key={each}>{each}</option>
              ))}
            </select>
          </div>
        </div>
        <div>
          <label for="record-values">Values, one a line</label>
          <textarea
            id="record-values"
            required
            rows={2}
            spellcheck={false}
            placeholder={hints[type]}
            value={values}
            onInput={({ currentTarget }) => setValues(currentTarget.value)}
          />
        </div>
        <p>
          <button>Publish, instead of what is there</button>
        </p>
      </form>
      {(refusal ?? fault) && (
        <p class="note bad" role="alert">
          {refusal ?? fault}
        </p>
      )}
      <div class="narrow">
        <label for="zone-part">Show names with</label>
        <input
          id="zone-part"
          type="search"
          value={part}
          onInput={({ currentTarget }) => setPart(currentTarget.value)}
        />
      </div>
      {records === undefined ? (
        <p>{fault === undefined && 'Reading the zone …'}</p>
      ) : sets.length === 0 ? (
        <p>{part === '' ? 'Nothing is published yet.' : 'No name has that in it.'}</p>
      ) : (
        <div class="table">
          <table>
            <caption class="unseen">Published records</caption>
            <thead>
              <tr>
                <th scope="col">Name</th>
                <th scope="col">Type</th>
                <th scope="col">Values</th>
                <th scope="col">Change</th>
              </tr>
            </thead>
            <tbody>
              {sets.slice(0, shown).map(({ owner, kind, list }) => (
                <tr key={`${owner} ${kind}`}>
                  <th scope="row">
                    <Value text={owner} />
                  </th>
                  <td data-label="Type">{kind}</td>
                  <td data-label="Values">
                    <Values values={list} />
                  </td>
                  <td class="actions">
                    <button
                      type="button"
                      aria-label={`Edit ${kind} ${owner}`}
                      onClick={() => {
                        setName(owner);
                        setType(kind as typeof type);
                        setValues(list.join('\n'));
                        document.getElementById('record-values')?.focus();
                      }}
                    >
                      Edit
                    </button>
                    <button
                      type="button"
                      class="danger"
                      aria-label={`Delete ${kind} ${owner}`}
                      onClick={() =>
                        void act(`${kind} ${owner} is deleted.`, () => ask('DELETE', recordPath(owner, kind)))
                      }
                    >
                      Delete
                    </button>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {sets.length > shown && (
        <p>
          <button type="button" onClick={() => setShown(shown + page)}>
            Show more of {count(sets.length, 'record set')}
          </button>
        </p>
      )}
    </section>
  );
}

/** Places all records of a domain at once, or takes them away, as text of the API or of a zone file for BIND. */
function PlaceAll({ act }: { readonly act: (what: string, request: () => Promise<unknown>) => Promise<void> }) {
  const [text, setText] = useState('');
  const send = (path: 'place' | 'remove', done: string): void =>
    void act(done, () => ask('POST', `/zone/${path}`, { zone_file: text }));
  return (
    <form
      class="stack"
      onSubmit={(event) => {
        event.preventDefault();
        send('place', 'All of the records are published.');
      }}
    >
      <h3>All records of a domain</h3>
      <div>
        <label for="zone-file">Zone file (BIND)</label>
        <textarea
          id="zone-file"
          required
          rows={4}
          spellcheck={false}
          aria-describedby="zone-file-from"
          value={text}
          onInput={({ currentTarget }) => setText(currentTarget.value)}
        />
        <p id="zone-file-from" class="quiet small">
          The setup page and the console copy it: “All records as text”.
        </p>
      </div>
      <div class="row">
        <button class="main">Publish all</button>
        <button type="button" onClick={() => send('remove', 'All of the records are taken away.')}>
          Take all away
        </button>
      </div>
    </form>
  );
}
