import torch
import torch.nn as nn


class Memory(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.rnn = nn.GRU(input_size, hidden_size)

    def forward(self, observations):
        out, _ = self.rnn(observations)
        return out


class StudentTeacherRecurrent(nn.Module):
    def __init__(self, n_student_obs, n_teacher_obs, n_actions, hidden=16):
        super().__init__()
        self.memory_s = Memory(n_student_obs, hidden)
        self.student = nn.Sequential(nn.Linear(hidden, 24), nn.ELU(), nn.Linear(24, n_actions))
        self.teacher = nn.Sequential(nn.Linear(n_teacher_obs, 24), nn.ELU(), nn.Linear(24, n_actions))
        self.teacher.eval()

    def act_inference(self, observations):
        return self.student(self.memory_s(observations))

    def evaluate(self, teacher_observations):
        with torch.no_grad():
            return self.teacher(teacher_observations)


class Distillation:
    def __init__(self, policy, learning_rate=1e-3, gradient_length=5, max_grad_norm=1.0):
        self.policy = policy
        student_params = [*policy.memory_s.parameters(), *policy.student.parameters()]
        self.optimizer = torch.optim.Adam(student_params, lr=learning_rate)
        self.gradient_length = gradient_length
        self.max_grad_norm = max_grad_norm

    def update(self, storage):
        total, loss = 0.0, 0
        for step, (obs, privileged_obs) in enumerate(storage, 1):
            actions = self.policy.act_inference(obs)
            behavior_loss = nn.functional.huber_loss(actions, self.policy.evaluate(privileged_obs))
            loss = loss + behavior_loss
            total += behavior_loss.item()
            if step % self.gradient_length == 0:
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.policy.student.parameters(), self.max_grad_norm)
                self.optimizer.step()
                loss = 0
        return total / len(storage)


if __name__ == "__main__":
    torch.manual_seed(6)
    algorithm = Distillation(StudentTeacherRecurrent(4, 7, 2))
    rollouts = [(torch.randn(3, 8, 4), torch.randn(3, 8, 7)) for _ in range(10)]
    for it in range(2):
        print(it, algorithm.update(rollouts))
