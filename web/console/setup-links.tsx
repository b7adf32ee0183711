import { useState } from 'preact/hooks';
import { answerTo } from '../shared/api';
import { announce } from '../shared/announce';
import { Copied } from '../shared/copy';
import { Problem } from '../shared/problem';
import { shownTime } from '../shared/time';
import { Value } from '../shared/value';
import { Field } from './parts';
import { useSession } from './session';
import { useAction, useLoaded } from './use-api';

/** Hands the domain to whoever edits its DNS: by a link to copy, or by a mail. */
export function SetupLinksSection({ id }: { readonly id: string }) {
  const { api } = useSession();
  const links = useLoaded(
    () => answerTo(api.GET('/domains/{id}/setup-links', { params: { path: { id } } })),
    [api, id],
  );
  const [days, setDays] = useState('7');
  const [email, setEmail] = useState('');
  const [made, setMade] = useState<string>();
  const [mailed, setMailed] = useState<string>();
  const make = useAction();
  const mail = useAction();
  const revoke = useAction();
  const params = { path: { id } };
  const open = links.value?.data ?? [];

  const onMake = (event: Event): void => {
    event.preventDefault();
    void make.run(async () => {
      const body = { expires_in_days: Number(days) };
      const { data } = await answerTo(api.POST('/domains/{id}/setup-link', { params, body }));
      setMade(data.url);
      announce('The link is made. Copy it now: it is not shown again.');
      await links.reload();
    });
  };
  const onMail = (event: Event): void => {
    event.preventDefault();
    void mail.run(async () => {
      const body = { email: email.trim() };
      const { data } = await answerTo(api.POST('/domains/{id}/setup-instructions', { params, body }));
      setMailed(data.email);
      setEmail('');
      announce(`${data.email} is being mailed.`);
      await links.reload();
    });
  };
  return (
    <section class="card" aria-labelledby="setup">
      <h2 id="setup">Somebody else edits the DNS?</h2>
      <p class="quiet">
        A setup link shows these records, what to change, and when they are in place. It needs no account, and tells
        nothing else of your team.
      </p>
      <form class="row" onSubmit={onMake}>
        <div>
          <label for="days">Valid for</label>
          <select id="days" value={days} onChange={({ currentTarget }) => setDays(currentTarget.value)}>
            <option value="1">1 day</option>
            <option value="7">7 days</option>
            <option value="30">30 days</option>
          </select>
        </div>
        <button disabled={make.isBusy}>Make a link</button>
      </form>
      {make.failure && <Problem failure={make.failure} />}
      {made !== undefined && (
        <div class="note good stack">
          <p>Hand it to nobody but whoever edits the DNS. It is not shown again.</p>
          <Copied text={made} what="the setup link">
            <Value text={made} />
          </Copied>
        </div>
      )}
      <form class="row" onSubmit={onMail}>
        <Field id="email" label="Mail it to" type="email" required maxLength={320} value={email} onValue={setEmail} />
        <button disabled={mail.isBusy}>Mail instructions</button>
      </form>
      {mail.failure && <Problem failure={mail.failure} />}
      {mailed !== undefined && (
        <p class="note good">
          A link with all records is on its way to <Value text={mailed} />.
        </p>
      )}
      {links.failure && <Problem failure={links.failure} again={() => void links.reload()} />}
      {revoke.failure && <Problem failure={revoke.failure} />}
      {open.length > 0 && (
        <>
          <h3>Open links</h3>
          <ul class="plain stack">
            {open.map((link) => (
              <li key={link.id} class="row apart">
                <span>
                  {link.email === null ? 'Handed over by you' : <Value text={link.email} />}
                  <span class="quiet small"> · valid until {shownTime(link.expires_at)}</span>
                </span>
                <button
                  type="button"
                  class="danger"
                  aria-label={`Revoke the link of ${shownTime(link.created_at)}`}
                  disabled={revoke.isBusy}
                  onClick={() =>
                    void revoke.run(async () => {
                      const path = { id, link: link.id };
                      await answerTo(api.DELETE('/domains/{id}/setup-links/{link}', { params: { path } }));
                      announce('The link opens nothing any more.');
                      setMade(undefined);
                      await links.reload();
                    })
                  }
                >
                  Revoke
                </button>
              </li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}
