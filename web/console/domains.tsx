import { useState } from 'preact/hooks';
import { answerTo } from '../shared/api';
import { DomainStatus } from '../shared/badge';
import { shownTime } from '../shared/time';
import { Outside } from '../shared/value';
import { List, Title } from './parts';
import { go, Link, useAddress } from './router';
import { NotAllowed, useMay, useSession } from './session';
import { usePages } from './use-api';

const statuses = { pending: 'Pending', verified: 'Verified', failed: 'Failed' } as const;
const modes = { send_receive: 'Send and receive', send_only: 'Send only' } as const;
type Status = keyof typeof statuses;
type Mode = keyof typeof modes;
export const modeWords = (mode: Mode): string => modes[mode];

export function DomainsPage() {
  const may = useMay();
  const { query } = useAddress();
  return (
    <>
      <div class="row apart">
        <Title page="Domains">Domains</Title>
        {may('domain.create') && (
          <Link to="/domains/new" class="button main">
            Add a domain
          </Link>
        )}
      </div>
      {may('domain.read') ? (
        <Domains key={query.toString()} query={query} />
      ) : (
        <NotAllowed to="list domains" permission="domain.read" />
      )}
    </>
  );
}

function Domains({ query }: { readonly query: URLSearchParams }) {
  const { api } = useSession();
  const [status, setStatus] = useState(query.get('status') ?? '');
  const [mode, setMode] = useState(query.get('mode') ?? '');
  const [name, setName] = useState(query.get('name') ?? '');
  const isFiltered = query.size > 0;
  const pages = usePages(
    (cursor) => {
      const filters = Object.fromEntries(query) as { status?: Status; mode?: Mode; name?: string };
      return answerTo(api.GET('/domains', { params: { query: { ...filters, cursor } } }));
    },
    [api, query.toString()],
  );
  const search = (event: Event): void => {
    event.preventDefault();
    const chosen = Object.entries({ status, mode, name: name.trim() }).filter(([, value]) => value !== '');
    go(chosen.length > 0 ? `/?${new URLSearchParams(chosen).toString()}` : '/');
  };
  return (
    <>
      <form role="search" aria-label="Domains" class="row" onSubmit={search}>
        <div class="wide">
          <label for="name">Part of the name</label>
          <input
            id="name"
            type="search"
            pattern="[A-Za-z0-9.\-]{3,253}"
            title="Three characters or more: letters without accents, digits, hyphens and dots. A name in another script is found by its form in the DNS, which begins with xn--"
            value={name}
            onInput={({ currentTarget }) => setName(currentTarget.value)}
          />
        </div>
        <div>
          <label for="status">Status</label>
          <Choice id="status" value={status} words={statuses} onValue={setStatus} />
        </div>
        <div>
          <label for="mode">Mode</label>
          <Choice id="mode" value={mode} words={modes} onValue={setMode} />
        </div>
        <button>Search</button>
        {isFiltered && <Link to="/">Show all</Link>}
      </form>
      <List
        pages={pages}
        empty={
          <p class="note">
            {isFiltered
              ? 'No domain matches.'
              : 'Your team has no domain yet. Add one: you will see what it changes before anything is done.'}
          </p>
        }
      >
        {(domains) => (
          <table>
            <caption class="unseen">Domains, the newest first</caption>
            <thead>
              <tr>
                <th scope="col">Domain</th>
                <th scope="col">Status</th>
                <th scope="col">Mode</th>
                <th scope="col">Last checked</th>
              </tr>
            </thead>
            <tbody>
              {domains.map((domain) => (
                <tr key={domain.id}>
                  <th scope="row">
                    <Link to={`/domains/${domain.id}`}>
                      <Outside text={domain.domain_unicode ?? domain.domain} />
                    </Link>
                  </th>
                  <td>{domain.deleting ? 'Is being deleted' : <DomainStatus status={domain.verification_status} />}</td>
                  <td data-label="Mode">{modes[domain.mode]}</td>
                  <td data-label="Last checked">
                    {domain.last_checked_at === null ? 'not yet' : shownTime(domain.last_checked_at)}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </List>
    </>
  );
}

function Choice({
  id,
  value,
  words,
  onValue,
}: {
  readonly id: string;
  readonly value: string;
  readonly words: Readonly<Record<string, string>>;
  readonly onValue: (value: string) => void;
}) {
  return (
    <select id={id} value={value} onChange={({ currentTarget }) => onValue(currentTarget.value)}>
      <option value="">Any</option>
      {Object.entries(words).map(([each, word]) => (
        <option key={each} value={each}>
          {word}
        </option>
      ))}
    </select>
  );
}
