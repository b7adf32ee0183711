import { useState } from 'preact/hooks';
import { answerTo, type Schemas } from '../shared/api';
import { announce } from '../shared/announce';
import { Badge } from '../shared/badge';
import { Problem } from '../shared/problem';
import { Outside, Prose, Value } from '../shared/value';
import { Confirm, Field, List, Title } from './parts';
import { Link, useAddress } from './router';
import { NotAllowed, useMay, useSession } from './session';
import { useAction, usePages } from './use-api';

type Mailbox = Schemas['MailboxSchema'];

export function MailboxesPage() {
  const may = useMay();
  return (
    <>
      <Title page="Mailboxes">Mailboxes</Title>
      {may('mailbox.read') ? <Mailboxes /> : <NotAllowed to="list mailboxes" permission="mailbox.read" />}
    </>
  );
}

function Mailboxes() {
  const { api } = useSession();
  const may = useMay();
  const { query } = useAddress();
  const domainId = query.get('domain_id') ?? undefined;
  const pages = usePages(
    (cursor) => answerTo(api.GET('/mailboxes', { params: { query: { cursor, domain_id: domainId } } })),
    [api, domainId],
  );
  const change = useAction();
  const [asks, setAsks] = useState<Mailbox>();
  const act = (said: string, request: () => Promise<unknown>): void =>
    void change.run(async () => {
      await request();
      announce(said);
      await pages.reload();
    });
  return (
    <>
      {may('mailbox.create') && <Create onCreated={pages.reload} />}
      {change.failure && <Problem failure={change.failure} />}
      {domainId !== undefined && (
        <p>
          Of one domain only. <Link to="/mailboxes">Show all</Link>
        </p>
      )}
      <List
        pages={pages}
        empty={<p class="note">There is no mailbox yet. It needs a verified domain that receives.</p>}
      >
        {(mailboxes) => (
          <table>
            <caption class="unseen">Mailboxes, the newest first</caption>
            <thead>
              <tr>
                <th scope="col">Address</th>
                <th scope="col">Name</th>
                <th scope="col">Status</th>
                <th scope="col">Change</th>
              </tr>
            </thead>
            <tbody>
              {mailboxes.map((mailbox) => {
                const params = { path: { id: mailbox.id } };
                const isActive = mailbox.status === 'active';
                return (
                  <tr key={mailbox.id}>
                    <th scope="row">
                      <Value text={mailbox.email} />
                    </th>
                    <td data-label="Name">
                      {mailbox.display_name === null ? '–' : <Outside text={mailbox.display_name} />}
                    </td>
                    <td>
                      <Badge tone={isActive ? 'good' : 'wait'} words={isActive ? 'Active' : 'Suspended'} />
                    </td>
                    <td class="actions">
                      {may('mailbox.update') && (
                        <button
                          type="button"
                          aria-label={`${isActive ? 'Suspend' : 'Resume'} ${mailbox.email}`}
                          disabled={change.isBusy}
                          onClick={() =>
                            act(`${mailbox.email} is ${isActive ? 'suspended' : 'active'}.`, () =>
                              answerTo(
                                isActive
                                  ? api.POST('/mailboxes/{id}/suspend', { params })
                                  : api.POST('/mailboxes/{id}/resume', { params }),
                              ),
                            )
                          }
                        >
                          {isActive ? 'Suspend' : 'Resume'}
                        </button>
                      )}
                      {may('mailbox.delete') && (
                        <button
                          type="button"
                          class="danger"
                          aria-label={`Delete ${mailbox.email}`}
                          disabled={change.isBusy}
                          onClick={() => setAsks(mailbox)}
                        >
                          Delete
                        </button>
                      )}
                    </td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        )}
      </List>
      {asks && (
        <Confirm
          title={`Delete ${asks.email}?`}
          yes="Delete it"
          onNo={() => setAsks(undefined)}
          onYes={() => {
            act(`${asks.email} is deleted.`, () =>
              answerTo(api.DELETE('/mailboxes/{id}', { params: { path: { id: asks.id } } })),
            );
          }}
        >
          <p>No mail for it is received any more.</p>
        </Confirm>
      )}
    </>
  );
}

function Create({ onCreated }: { readonly onCreated: () => Promise<void> }) {
  const { api, refresh } = useSession();
  const { run, failure, isBusy } = useAction();
  const [email, setEmail] = useState('');
  const [name, setName] = useState('');
  const [warning, setWarning] = useState<string | null>(null);
  const create = (event: Event): void => {
    event.preventDefault();
    void run(async () => {
      const body = { email: email.trim(), ...(name.trim() !== '' && { display_name: name.trim() }) };
      const { data } = await answerTo(api.POST('/mailboxes', { body }));
      setWarning(data.warning);
      setEmail('');
      setName('');
      announce(`${data.email} is created.`);
      void refresh();
      await onCreated();
    });
  };
  return (
    <form class="card" onSubmit={create}>
      <h2>New mailbox</h2>
      <div class="row">
        <Field id="mailbox" label="Address" type="email" required maxLength={254} value={email} onValue={setEmail} />
        <Field id="display-name" label="Name (optional)" maxLength={254} value={name} onValue={setName} />
        <button class="main" disabled={isBusy}>
          Create
        </button>
      </div>
      {failure && <Problem failure={failure} />}
      {warning !== null && (
        <p class="note wait">
          <Prose text={warning} />
        </p>
      )}
    </form>
  );
}
