import { useState } from 'preact/hooks';
import { answerTo, asFailure, type Api, type ApiFailure } from '../shared/api';
import { Problem } from '../shared/problem';
import { Field, Title } from './parts';
import type { Me } from './session';

/** @param notice why whoever was signed in is not any more. */
export function SignIn({
  api,
  notice,
  onSignedIn,
}: {
  readonly api: Api;
  readonly notice: string | undefined;
  readonly onSignedIn: (me: Me) => void;
}) {
  const [key, setKey] = useState('');
  const [failure, setFailure] = useState<ApiFailure>();
  const [isBusy, setBusy] = useState(false);

  async function signIn(event: Event): Promise<void> {
    event.preventDefault();
    setBusy(true);
    try {
      const { data } = await answerTo(api.POST('/session', { body: { api_key: key.trim() } }));
      onSignedIn(data);
    } catch (error) {
      setFailure(asFailure(error));
      setBusy(false);
    }
  }
  return (
    <form class="card" onSubmit={(event) => void signIn(event)}>
      <Title page="Sign in">Sign in</Title>
      {notice !== undefined && <p class="note wait">{notice}</p>}
      <Field
        id="api-key"
        label="API key"
        type="password"
        required
        hint="It is sent once, and not kept in this browser: a session takes its place, and ends after 30 minutes without use."
        value={key}
        onValue={setKey}
      />
      {failure && <Problem failure={failure} />}
      <p class="quiet small">
        Whoever may create keys in your team can give you one. If you were sent a setup link, open the link itself: it
        needs no key.
      </p>
      <p>
        <button class="main" disabled={isBusy}>
          {isBusy ? 'Signing in …' : 'Sign in'}
        </button>
      </p>
    </form>
  );
}
