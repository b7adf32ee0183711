import { useState } from 'preact/hooks';
import { announce } from '../shared/announce';
import { answerTo, ApiFailure, type Schemas } from '../shared/api';
import { Problem } from '../shared/problem';
import { count } from '../shared/text';
import { Outside, Value } from '../shared/value';
import { Field } from './parts';
import { NotAllowed, useMay, useSession } from './session';
import { useAction, useLoaded } from './use-api';

type Rules = Schemas['FiltersSchema'];
type Rule = Schemas['FilterRuleSchema'];

const modes: Readonly<Record<Rules['mode'], string>> = {
  off: 'is taken: no rule is applied',
  denylist: 'is taken, unless a rule denies it',
  allowlist: 'is refused, unless a rule allows it',
};
const types: Readonly<Record<Rule['type'], string>> = { allow: 'Allow', deny: 'Deny' };

/** How many rules are laid out at once. */
const page = 50;

/** Shows and changes whose mail the mailboxes of a domain take. */
export function SenderRulesSection({ id }: { readonly id: string }) {
  const may = useMay();
  return (
    <section class="card" aria-labelledby="sender-rules">
      <h2 id="sender-rules">Whose mail it takes</h2>
      <p class="quiet">
        Rules about senders, for all mailboxes of this domain. The sender is the one of the envelope (Return-Path). Mail
        to postmaster and abuse, and delivery reports, are always taken.
      </p>
      {may('mailbox.read') ? <SenderRules id={id} /> : <NotAllowed to="read these rules" permission="mailbox.read" />}
    </section>
  );
}

function SenderRules({ id }: { readonly id: string }) {
  const { api } = useSession();
  const may = useMay();
  const params = { path: { id } };
  const read = async () => {
    const asked = api.GET('/domains/{id}/filters', { params });
    const { data } = await answerTo(asked);
    return { rules: data, version: (await asked).response.headers.get('etag') ?? '' };
  };
  const { value, failure: unread, reload } = useLoaded(read, [api, id]);
  const { run, failure, isBusy } = useAction();
  const [mode, setMode] = useState<Rules['mode']>();
  const [shown, setShown] = useState(page);

  if (!value) return unread ? <Problem failure={unread} again={() => void reload()} /> : <p>Reading …</p>;
  const now = value.rules;
  const chosen = mode ?? now.mode;

  /** Replaces the rules that are shown, unless somebody else has changed them since. */
  async function save(next: Rules, said: string): Promise<boolean> {
    const isSaved = await run(async () => {
      const { rules, version } = await read();
      if (JSON.stringify(rules) !== JSON.stringify(now)) {
        const message = 'Somebody else has changed these rules meanwhile. This is what they are now: try again.';
        throw new ApiFailure('conflict', message, 409, undefined, false);
      }
      const header = { 'If-Match': version };
      await answerTo(api.PUT('/domains/{id}/filters', { params: { ...params, header }, body: next }));
      announce(said);
    });
    if (isSaved) setMode(undefined);
    await reload();
    return isSaved;
  }
  return (
    <>
      {may('mailbox.update') ? (
        <form
          class="row"
          onSubmit={(event) => {
            event.preventDefault();
            void save({ ...now, mode: chosen }, `Mail of other senders ${modes[chosen]}.`);
          }}
        >
          <div>
            <label for="rules-mode">Mail of a sender that no rule names</label>
            <select
              id="rules-mode"
              value={chosen}
              onChange={({ currentTarget }) => setMode(currentTarget.value as Rules['mode'])}
            >
              {Object.entries(modes).map(([each, words]) => (
                <option key={each} value={each}>
                  {words}
                </option>
              ))}
            </select>
          </div>
          <button disabled={isBusy || chosen === now.mode}>Save</button>
        </form>
      ) : (
        <p>Mail of a sender that no rule names {modes[now.mode]}.</p>
      )}
      {chosen === 'allowlist' && !now.rules.some(({ type }) => type === 'allow') && (
        <p class="note wait">No rule allows anybody yet, so that all other mail is refused.</p>
      )}
      {failure && <Problem failure={failure} />}
      {unread && <Problem failure={unread} again={() => void reload()} />}
      {now.rules.length === 0 ? (
        <p>There are no rules.</p>
      ) : (
        <table>
          <caption class="unseen">Rules about senders</caption>
          <thead>
            <tr>
              <th scope="col">Sender</th>
              <th scope="col">Rule</th>
              <th scope="col">Note</th>
              <th scope="col">Change</th>
            </tr>
          </thead>
          <tbody>
            {now.rules.slice(0, shown).map((rule) => (
              <tr key={rule.pattern}>
                <th scope="row">
                  <Value text={rule.pattern} />
                </th>
                <td data-label="Rule">{types[rule.type]}</td>
                <td data-label="Note">{rule.note ? <Outside text={rule.note} /> : '–'}</td>
                <td class="actions">
                  {may('mailbox.update') && (
                    <button
                      type="button"
                      class="danger"
                      aria-label={`Remove the rule about ${rule.pattern}`}
                      disabled={isBusy}
                      onClick={() =>
                        void save(
                          { ...now, rules: now.rules.filter((each) => each !== rule) },
                          `The rule about ${rule.pattern} is removed.`,
                        )
                      }
                    >
                      Remove
                    </button>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {now.rules.length > shown && (
        <p>
          <button type="button" onClick={() => setShown(shown + page)}>
            Show more of {count(now.rules.length, 'rule')}
          </button>
        </p>
      )}
      {may('mailbox.update') && (
        <AddRule
          key={now.mode}
          isBusy={isBusy}
          usual={now.mode === 'allowlist' ? 'allow' : 'deny'}
          onAdd={(rule) => save({ ...now, rules: [...now.rules, rule] }, `There is a rule about ${rule.pattern} now.`)}
        />
      )}
    </>
  );
}

function AddRule({
  usual,
  isBusy,
  onAdd,
}: {
  readonly usual: Rule['type'];
  readonly isBusy: boolean;
  readonly onAdd: (rule: Rule) => Promise<boolean>;
}) {
  const [type, setType] = useState(usual);
  const [pattern, setPattern] = useState('');
  const [note, setNote] = useState('');
  const add = async (event: Event): Promise<void> => {
    event.preventDefault();
    const isAdded = await onAdd({ type, pattern: pattern.trim(), note: note.trim() === '' ? null : note.trim() });
    if (!isAdded) return;
    setPattern('');
    setNote('');
  };
  return (
    <form class="stack" aria-labelledby="add-rule" onSubmit={(event) => void add(event)}>
      <h3 id="add-rule">New rule</h3>
      <div class="row">
        <div>
          <label for="rule-type">Rule</label>
          <select
            id="rule-type"
            value={type}
            onChange={({ currentTarget }) => setType(currentTarget.value as Rule['type'])}
          >
            {Object.entries(types).map(([each, words]) => (
              <option key={each} value={each}>
                {words}
              </option>
            ))}
          </select>
        </div>
        <Field id="rule-pattern" label="Sender" required maxLength={1000} value={pattern} onValue={setPattern} />
        <Field id="rule-note" label="Note (optional)" maxLength={255} value={note} onValue={setNote} />
        <button disabled={isBusy}>Add the rule</button>
      </div>
      <p class="quiet small">
        A sender is an address, such as ada@partner.com, or a hostname, such as partner.com, for all addresses at
        exactly that hostname. A rule about an address wins over one about its hostname.
      </p>
    </form>
  );
}
