import { useState } from 'preact/hooks';
import { answerTo } from '../shared/api';
import { announce } from '../shared/announce';
import { Problem } from '../shared/problem';
import { shownTime } from '../shared/time';
import { Value } from '../shared/value';
import { Confirm, Field, Title } from './parts';
import { NotAllowed, useMay, useSession } from './session';
import { useAction, useLoaded } from './use-api';

export function OwnersPage() {
  const may = useMay();
  return (
    <>
      <Title page="Owners">Owners</Title>
      <p class="quiet">They are mailed when a domain fails, recovers, or needs other records.</p>
      {may('owner.read') ? <Owners /> : <NotAllowed to="list owners" permission="owner.read" />}
    </>
  );
}

function Owners() {
  const { api } = useSession();
  const may = useMay();
  const { value, failure: unread, reload } = useLoaded(() => answerTo(api.GET('/owners')), [api]);
  const { run, failure, isBusy } = useAction();
  const [email, setEmail] = useState('');
  const [asks, setAsks] = useState<{ readonly email: string; readonly isInvited: boolean }>();

  const invite = (event: Event): void => {
    event.preventDefault();
    void run(async () => {
      const { data } = await answerTo(api.POST('/owners/invitations', { body: { email: email.trim() } }));
      setEmail('');
      announce(`${data.email} is invited.`);
      await reload();
    });
  };
  const remove = (): void => {
    if (!asks) return;
    const params = { path: { email: asks.email } };
    void run(async () => {
      if (asks.isInvited) await answerTo(api.DELETE('/owners/invitations/{email}', { params }));
      else await answerTo(api.DELETE('/owners/{email}', { params }));
      announce(`${asks.email} is removed.`);
      await reload();
    });
  };
  const people = [
    ...(value?.data.owners ?? []).map((owner) => ({ ...owner, expires: undefined })),
    ...(value?.data.invitations ?? []).map((invited) => ({ ...invited, expires: invited.expires_at })),
  ];
  return (
    <>
      {may('owner.create') && (
        <form class="card" onSubmit={invite}>
          <h2>Invite an owner</h2>
          <div class="row">
            <Field id="owner" label="Address" type="email" required maxLength={320} value={email} onValue={setEmail} />
            <button class="main" disabled={isBusy}>
              Invite
            </button>
          </div>
        </form>
      )}
      {failure && <Problem failure={failure} />}
      {unread && <Problem failure={unread} again={() => void reload()} />}
      {value === undefined && !unread && <p>Reading …</p>}
      {value && (
        <ul class="plain card">
          {people.map(({ email: of, expires }) => (
            <li key={`${of} ${expires}`} class="row apart">
              <span>
                <Value text={of} />
                {expires !== undefined && <span class="quiet small"> · invited until {shownTime(expires)}</span>}
              </span>
              {may('owner.delete') && (
                <button
                  type="button"
                  class="danger"
                  aria-label={`${expires === undefined ? 'Remove' : 'Withdraw the invitation of'} ${of}`}
                  disabled={isBusy}
                  onClick={() => setAsks({ email: of, isInvited: expires !== undefined })}
                >
                  {expires === undefined ? 'Remove' : 'Withdraw'}
                </button>
              )}
            </li>
          ))}
        </ul>
      )}
      {asks && (
        <Confirm
          title={asks.isInvited ? `Withdraw the invitation of ${asks.email}?` : `Remove ${asks.email}?`}
          yes={asks.isInvited ? 'Withdraw it' : 'Remove'}
          onYes={remove}
          onNo={() => setAsks(undefined)}
        >
          <p>{asks.isInvited ? 'The mailed link opens nothing then.' : 'No notice is mailed there any more.'}</p>
        </Confirm>
      )}
    </>
  );
}
