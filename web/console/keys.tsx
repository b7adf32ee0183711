import { useState } from 'preact/hooks';
import { answerTo } from '../shared/api';
import { announce } from '../shared/announce';
import { Copied } from '../shared/copy';
import { Problem } from '../shared/problem';
import { shownTime } from '../shared/time';
import { Outside, Value } from '../shared/value';
import { Confirm, Field, List, Title } from './parts';
import { NotAllowed, useMay, useSession } from './session';
import { useAction, usePages } from './use-api';

const grants = {
  'root:full': 'Everything',
  'root:readonly': 'Reading everything',
  domains: 'Domains',
  mailboxes: 'Mailboxes',
} as const;
type Grant = keyof typeof grants;
const bodyOf = (grant: Grant) =>
  grant === 'domains'
    ? { permissions: ['domain.*' as const] }
    : grant === 'mailboxes'
      ? { permissions: ['mailbox.*' as const] }
      : { role: grant };

export function KeysPage() {
  const may = useMay();
  return (
    <>
      <Title page="API keys">API keys</Title>
      {may('key.read') ? <Keys /> : <NotAllowed to="list keys" permission="key.read" />}
    </>
  );
}

function Keys() {
  const { api, me } = useSession();
  const may = useMay();
  const pages = usePages((cursor) => answerTo(api.GET('/keys', { params: { query: { cursor } } })), [api]);
  const { run, failure, isBusy } = useAction();
  const [name, setName] = useState('');
  const [grant, setGrant] = useState<Grant>('root:readonly');
  const [fresh, setFresh] = useState<string>();
  const [asks, setAsks] = useState<{
    readonly id: string;
    readonly name: string;
    readonly what: 'rotate' | 'revoke';
  }>();

  const show = async (key: string): Promise<void> => {
    setFresh(key);
    announce('The key is made. Copy it now: it is not shown again.');
    await pages.reload();
  };
  const create = (event: Event): void => {
    event.preventDefault();
    void run(async () => {
      const { data } = await answerTo(api.POST('/keys', { body: { name: name.trim(), ...bodyOf(grant) } }));
      setName('');
      await show(data.key);
    });
  };
  const yes = (): void => {
    if (!asks) return;
    const params = { path: { id: asks.id } };
    void run(async () => {
      if (asks.what === 'rotate')
        return show((await answerTo(api.POST('/keys/{id}/rotate', { params, body: {} }))).data.key);
      await answerTo(api.DELETE('/keys/{id}', { params }));
      announce(`${asks.name} is revoked.`);
      await pages.reload();
    });
  };
  return (
    <>
      {may('key.create') && (
        <form class="card" onSubmit={create}>
          <h2>New key</h2>
          <div class="row">
            <Field id="key-name" label="What it is for" required maxLength={200} value={name} onValue={setName} />
            <div>
              <label for="grant">It may do</label>
              <select id="grant" value={grant} onChange={({ currentTarget }) => setGrant(currentTarget.value as Grant)}>
                {Object.entries(grants).map(([each, words]) => (
                  <option key={each} value={each}>
                    {words}
                  </option>
                ))}
              </select>
            </div>
            <button class="main" disabled={isBusy}>
              Create
            </button>
          </div>
        </form>
      )}
      {failure && <Problem failure={failure} />}
      {fresh !== undefined && (
        <div class="note good stack">
          <p>Keep it where secrets are kept. It is not shown again.</p>
          <Copied text={fresh} what="the new key">
            <Value text={fresh} />
          </Copied>
        </div>
      )}
      <List pages={pages} empty={<p class="note">There is no key.</p>}>
        {(keys) => (
          <table>
            <caption class="unseen">API keys, the newest first</caption>
            <thead>
              <tr>
                <th scope="col">Key</th>
                <th scope="col">May</th>
                <th scope="col">Used</th>
                <th scope="col">Change</th>
              </tr>
            </thead>
            <tbody>
              {keys.map((key) => (
                <tr key={key.id}>
                  <th scope="row">
                    <Outside text={key.name} /> <span class="quiet small">…{key.hint}</span>
                    {key.id === me.credential.id && <span class="quiet small"> (signed in with)</span>}
                  </th>
                  <td data-label="May">{key.role === null ? key.permissions.join(', ') : grants[key.role]}</td>
                  <td data-label="Used">
                    {key.id === me.credential.id
                      ? 'now, in this session'
                      : key.last_used_at === null
                        ? 'never'
                        : shownTime(key.last_used_at)}
                    {key.expires_at !== null && key.revoked_at === null && <> · ends {shownTime(key.expires_at)}</>}
                  </td>
                  <td class="actions">
                    {key.revoked_at === null ? (
                      <>
                        {may('key.update') && (
                          <button
                            type="button"
                            aria-label={`Rotate ${key.name} …${key.hint}`}
                            disabled={isBusy}
                            onClick={() => setAsks({ ...key, what: 'rotate' })}
                          >
                            Rotate
                          </button>
                        )}
                        {may('key.delete') && (
                          <button
                            type="button"
                            class="danger"
                            aria-label={`Revoke ${key.name} …${key.hint}`}
                            disabled={isBusy}
                            onClick={() => setAsks({ ...key, what: 'revoke' })}
                          >
                            Revoke
                          </button>
                        )}
                      </>
                    ) : (
                      <>revoked {shownTime(key.revoked_at)}</>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </List>
      {asks && (
        <Confirm
          title={asks.what === 'rotate' ? `Rotate ${asks.name}?` : `Revoke ${asks.name}?`}
          yes={asks.what === 'rotate' ? 'Rotate it' : 'Revoke it'}
          isDanger={asks.what === 'revoke'}
          onYes={yes}
          onNo={() => setAsks(undefined)}
        >
          <p>
            {asks.what === 'rotate'
              ? 'You get a new key. The old one stays valid beside it for a day.'
              : 'Whoever uses it is refused from now on, and sessions with it end.'}
            {asks.id === me.credential.id &&
              (asks.what === 'rotate'
                ? ' You are signed in with the old one: sign in with the new one before it ends.'
                : ' You are signed in with it, so this signs you out.')}
          </p>
        </Confirm>
      )}
    </>
  );
}
